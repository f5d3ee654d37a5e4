# The sample plugin. It listens on a socket in a volume that it shares with its sidecar and with nobody else.
FROM scratch
LABEL org.opencontainers.image.title="lab-reporting" \
      org.opencontainers.image.description="A sample plugin: lab reports of many companies in one SQLite file" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY lab-reporting /lab-reporting
COPY --chown=65532:65532 folders/ /
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/lab-reporting", "--listen", "unix:/run/plugin/http.sock", "--database", "/data/reports.db"]
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s --retries=3 CMD ["/lab-reporting", "--listen", "unix:/run/plugin/http.sock", "healthcheck"]
