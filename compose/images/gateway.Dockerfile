# gapura-gateway and nothing else: no shell, no libraries, nobody to log in. `compose/build` makes it.
FROM scratch
LABEL org.opencontainers.image.title="gapura-gateway" \
      org.opencontainers.image.description="The front door: verifies the token, routes, and speaks mTLS to the sidecars" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY gapura-gateway /gapura-gateway
# Folders that volumes are mounted on: a new volume takes its owner from here.
COPY --chown=65532:65532 folders/ /
ENV GAPURA_LISTEN=0.0.0.0:8443 GAPURA_MESH_DIR=/mesh GAPURA_PLUGIN_DIR=/plugins.d
USER 65532:65532
# For GAPURA_STATE_DIR: there to be written to although everything else is read only, whether or not a volume has a name.
VOLUME /state
EXPOSE 8443
STOPSIGNAL SIGTERM
ENTRYPOINT ["/gapura-gateway"]
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s --retries=3 CMD ["/gapura-gateway", "healthcheck"]
