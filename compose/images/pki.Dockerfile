# gapura-pki and nothing else. It runs, does its work and ends; nothing here listens.
FROM scratch
LABEL org.opencontainers.image.title="gapura-pki" \
      org.opencontainers.image.description="The certificates of a mesh: issues, renews, rotates, revokes and shows them" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY gapura-pki /gapura-pki
# /ca for the authority, /keys/gateway and /keys/plugin-1 to /keys/plugin-32 for one volume of keys each. A new volume takes its
# owner from the folder it is mounted on, so that no service needs a capability to give it away.
COPY --chown=65532:65532 folders/ /
ENV GAPURA_PKI_DIR=/ca
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/gapura-pki"]
HEALTHCHECK NONE
