# syntax=docker/dockerfile:1.7

FROM rust:1.95.0-slim-bookworm AS build
# The toolchain of the image, so that rustup does not fetch the components that only developers need.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist -p tokenhub-hub -p tokenhub-api -p tokenhub-worker \
    && install -D -t /out target/dist/tokenhub target/dist/tokenhub-api target/dist/tokenhub-worker

FROM debian:bookworm-20250929-slim
# Certificates for the providers, curl for the health check.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin tokenhub \
    && install --directory --owner tokenhub --group tokenhub --mode 0700 /var/lib/tokenhub
COPY --from=build /out/ /usr/local/bin/
ENV TOKENHUB_DATA_DIR=/var/lib/tokenhub
WORKDIR /var/lib/tokenhub
VOLUME /var/lib/tokenhub
USER tokenhub
EXPOSE 8080
CMD ["tokenhub-api"]
