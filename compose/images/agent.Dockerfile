# gapura-agent and nothing else: no shell, no libraries, nobody to log in. `compose/build` makes it.
FROM scratch
LABEL org.opencontainers.image.title="gapura-agent" \
      org.opencontainers.image.description="On each host: gets its certificate, the roots and the CRLs from the CA server" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY gapura-agent /gapura-agent
# Folders that volumes are mounted on: a new volume takes its owner from here.
COPY --chown=65532:65532 folders/ /
ENV GAPURA_MESH_DIR=/mesh GAPURA_STATE_DIR=/state GAPURA_TOKEN_FILE=/join/token
USER 65532:65532
VOLUME /state
STOPSIGNAL SIGTERM
ENTRYPOINT ["/gapura-agent"]
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s --retries=3 CMD ["/gapura-agent", "healthcheck"]
