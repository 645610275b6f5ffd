-- A redis-server of a spec's own, on the socket of a path in a directory of its own.
local redis = {}

local function read_to_end(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "a"
  pipe:close()
  return text
end

--- Starts a server, with further arguments for it: its directory, URL and pid.
function redis.start(arguments, dir)
  dir = dir or read_to_end "mktemp -d":match "[^\n]+"
  local log = assert(io.popen(("exec redis-server --port 0 --unixsocket %s/socket --dir %s --save '' %s 2>&1"):format(
    dir, dir, arguments or "")))
  local lines = {}
  for line in log:lines() do
    lines[#lines + 1] = line
    local pid = line:match "^(%d+):M .*[Rr]eady to accept connections"
    if pid then return { dir = dir, url = "unix://" .. dir .. "/socket", pid = tonumber(pid), log = log } end
  end
  error("redis-server does not start:\n" .. table.concat(lines, "\n"))
end

--- Ends a server with a signal, and waits until it has ended.
function redis.stop(server, signal)
  os.execute(("kill -%s %d"):format(signal or "TERM", server.pid))
  server.log:read "a"
  server.log:close()
end

function redis.remove(server)
  redis.stop(server, "KILL")
  os.execute("rm -rf " .. server.dir)
end

return redis
