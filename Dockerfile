# Sluice in a small image: the program, nothing else of ours, no root.
#   docker build -t sluice . && docker run -v ./sluice.toml:/etc/sluice/sluice.toml:ro -p 3306:3306 sluice
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ make cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock LICENSE ./
COPY src src
COPY ring ring
COPY config config
COPY integration integration
RUN cargo build --release --locked --package sluice --bin sluice && strip --strip-debug target/release/sluice

FROM debian:bookworm-slim
RUN useradd --system --no-create-home --shell /usr/sbin/nologin --uid 10001 sluice && install -d -o sluice -g sluice /etc/sluice
COPY --from=build /src/target/release/sluice /usr/bin/sluice
USER 10001
EXPOSE 3306 6032 6070
# SIGTERM drains.
STOPSIGNAL SIGTERM
# /healthz, asked by the shell itself: there is no curl in the image.
HEALTHCHECK --interval=5s --timeout=2s --start-period=5s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/6070 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q '200 OK' <&3"]
ENTRYPOINT ["/usr/bin/sluice"]
CMD ["run", "--config", "/etc/sluice/sluice.toml", "--log-format", "json"]
