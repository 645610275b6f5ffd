# An image with the command mpengine and the module for stock Lua:
#
#   docker build -t mpengine .
#   docker run --rm --init -v "$PWD:/app:ro" mpengine script.lua
#
# docs/operating.md says which limits and flags a container needs.
FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
        build-essential debhelper libcurl4-openssl-dev libedit-dev libhiredis-dev liblua5.4-dev \
        libmicrohttpd-dev libuv1-dev libwslay-dev pkg-config
COPY . /src/mpengine
WORKDIR /src/mpengine
RUN dpkg-buildpackage -us -uc -b

FROM debian:bookworm-slim
COPY --from=build /src/mpengine_*.deb /src/lua-mpengine_*.deb /tmp/
RUN apt-get update && apt-get install -y --no-install-recommends \
        /tmp/*.deb ca-certificates libcurl4 libedit2 libhiredis0.14 libmicrohttpd12 libwslay1 lua5.4 \
    && rm -rf /var/lib/apt/lists/* /tmp/*.deb && useradd --system --home-dir /app mpengine
WORKDIR /app
USER mpengine
ENTRYPOINT ["mpengine"]
