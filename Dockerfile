# The image out of the source: a static program on an empty base. Multi-arch with `docker buildx build --platform …`, where the
# foreign architecture is emulated; release/Dockerfile takes finished programs instead.
FROM rust:1.95-alpine3.22 AS build
RUN apk add --no-cache build-base
WORKDIR /source
# The crates alone, so that a change of the program does not build them again.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
 && cargo build --profile dist --locked --bin clickstamp && rm -r src
COPY src src
COPY static static
COPY templates templates
COPY migrations migrations
# The placeholders above are newer than the files of the source.
RUN touch src/main.rs src/lib.rs && cargo build --profile dist --locked --bin clickstamp
RUN mkdir -p /root-of-image/data /root-of-image/tmp && chmod 1777 /root-of-image/tmp && chown 10001:10001 /root-of-image/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /root-of-image/ /
COPY --from=build /source/target/dist/clickstamp /usr/local/bin/clickstamp
USER 10001:10001
ENV CLICKSTAMP_LISTEN=0.0.0.0:8080 CLICKSTAMP_DATA_DIR=/data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=6s --start-period=10s CMD ["/usr/local/bin/clickstamp", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/clickstamp"]
