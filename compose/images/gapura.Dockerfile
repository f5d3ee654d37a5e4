# gapura, the command for people: here for the development keys of the front door and tokens that it takes.
FROM scratch
LABEL org.opencontainers.image.title="gapura" \
      org.opencontainers.image.description="Development keys and tokens for a Gapura mesh" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY gapura /gapura
COPY --chown=65532:65532 folders/ /
ENV GAPURA_STATE=/keys GAPURA_DOOR=/door
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/gapura"]
HEALTHCHECK NONE
