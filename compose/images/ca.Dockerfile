# gapura-ca and nothing else: no shell, no libraries, nobody to log in. `compose/build` makes it.
FROM scratch
LABEL org.opencontainers.image.title="gapura-ca" \
      org.opencontainers.image.description="The CA server: certificates, roots and CRLs for the agents of a mesh" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY gapura-ca /gapura-ca
# Folders that volumes are mounted on: a new volume takes its owner from here.
COPY --chown=65532:65532 folders/ /
ENV GAPURA_DIR=/ca GAPURA_MESH_DIR=/mesh GAPURA_STATE_DIR=/state GAPURA_LISTEN=0.0.0.0:9443
USER 65532:65532
VOLUME /state
EXPOSE 9443
STOPSIGNAL SIGTERM
ENTRYPOINT ["/gapura-ca"]
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s --retries=3 CMD ["/gapura-ca", "healthcheck"]
