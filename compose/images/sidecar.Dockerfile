# gapura-sidecar and nothing else: no shell, no libraries, nobody to log in. `compose/build` makes it.
FROM scratch
LABEL org.opencontainers.image.title="gapura-sidecar" \
      org.opencontainers.image.description="Beside each plugin: lets in the gateway alone and hands on trusted headers" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY gapura-sidecar /gapura-sidecar
# Folders that volumes are mounted on: a new volume takes its owner from here.
COPY --chown=65532:65532 folders/ /
# Literal addresses: without /etc/hosts a static program would ask DNS for `localhost`, and believe it.
ENV GAPURA_LISTEN=0.0.0.0:19443 GAPURA_MESH_DIR=/mesh GAPURA_PLUGIN=unix:/run/plugin/http.sock
USER 65532:65532
# For GAPURA_STATE_DIR: there to be written to although everything else is read only, whether or not a volume has a name.
VOLUME /state
EXPOSE 19443
STOPSIGNAL SIGTERM
ENTRYPOINT ["/gapura-sidecar"]
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s --retries=3 CMD ["/gapura-sidecar", "healthcheck"]
