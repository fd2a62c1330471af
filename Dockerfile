# One image for every role; docker-compose.yml names the role. It holds no settings and no secrets.

FROM python:3.13-slim-trixie AS environment

RUN python -m venv --without-pip /opt/venv
WORKDIR /build
# Packages change rarely, so they have their own layer. All are wheels, as the image has no compiler.
COPY requirements.lock ./
RUN pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
    --only-binary :all: --require-hashes --requirement requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY runtime runtime
COPY schema schema
COPY broker broker
COPY ingestor ingestor
COPY api api
COPY scheduler scheduler
COPY cli cli
# No index is needed: the build tools are in the lock file too. Only make setup uses uv.
RUN pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
    --no-index --no-deps --no-build-isolation . \
    && pip --python /opt/venv/bin/python uninstall --yes --quiet uv

FROM python:3.13-slim-trixie

LABEL org.opencontainers.image.title="Voltwire" \
      org.opencontainers.image.description="MQTT-native telemetry backend for battery devices on plain PostgreSQL" \
      org.opencontainers.image.licenses="MIT"

# Fixed numbers, because other systems do not know the image's /etc/passwd.
RUN groupadd --gid 10001 voltwire \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
       --shell /usr/sbin/nologin voltwire \
    # New volumes take over these owners; 1883 is the group of Mosquitto in its image.
    && install --directory --mode=0700 --owner=10001 --group=10001 /var/lib/voltwire \
    && install --directory --mode=0750 --owner=10001 --group=1883 /mosquitto/files

COPY --from=environment /opt/venv /opt/venv

# pip compiled the bytecode and nothing is written at run time, so the root can be read-only.
ENV PATH="/opt/venv/bin:$PATH" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /srv
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["voltwire"]
CMD ["--help"]
