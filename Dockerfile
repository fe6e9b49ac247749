FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY static static
COPY templates templates
COPY migrations migrations
RUN cargo build --release --locked --bin clickstamp

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home --home-dir /data clickstamp
COPY --from=build /source/target/release/clickstamp /usr/local/bin/clickstamp
USER clickstamp
ENV CLICKSTAMP_LISTEN=0.0.0.0:8080 CLICKSTAMP_DATA_DIR=/data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=6s --start-period=10s CMD ["clickstamp", "healthcheck"]
ENTRYPOINT ["clickstamp"]
