#!/bin/sh
# The server of rows/serve.lua: nginx, that many processes without a master. usage: serve_nginx.sh PROCESSES
set -eu
PATH=$PATH:/usr/sbin
command -v nginx >/dev/null
port=$((20000 + $$ % 20000))
dir=$(mktemp -d)
cat > "$dir/conf" <<CONF
daemon off;
master_process off;
pid /dev/null;
error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path $dir; proxy_temp_path $dir; fastcgi_temp_path $dir;
  uwsgi_temp_path $dir; scgi_temp_path $dir;
  server {
    listen 127.0.0.1:$port reuseport;
    location / { default_type text/plain; return 200 "hello"; }
  }
}
CONF
nginx="nginx -c $dir/conf -e stderr"
$nginx -t -q
for _ in $(seq 2 "$1"); do setpriv --pdeathsig KILL $nginx >/dev/null 2>&1 & done
# It does not tell when it listens.
(sleep 0.5; rm -r "$dir"; echo "$port") 2>/dev/null &
exec $nginx
