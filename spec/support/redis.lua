-- A server of a spec's own, on the socket of a path in a directory of its own: redis-server, or what
-- MPENGINE_REDIS_SERVER names.
local support = require "spec.support"

local redis = { program = os.getenv "MPENGINE_REDIS_SERVER" or "redis-server" }

local function read_to_end(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "a"
  pipe:close()
  return text
end

--- Starts a server, with further arguments for it, by the words `before` it: its directory, URL and pid.
function redis.start(arguments, dir, before)
  dir = dir or read_to_end "mktemp -d":match "[^\n]+"
  local log = assert(io.popen(("exec %s %s --port 0 --unixsocket %s/socket --dir %s --save '' %s 2>&1"):format(
    before or "", redis.program, dir, dir, arguments or "")))
  local lines = {}
  for line in log:lines() do
    lines[#lines + 1] = line
    local pid = line:match "^(%d+):M .*[Rr]eady to accept connections"
    if pid then return { dir = dir, url = "unix://" .. dir .. "/socket", pid = tonumber(pid), log = log } end
  end
  error(redis.program .. " does not start:\n" .. table.concat(lines, "\n"))
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

-- What programs of specs begin with: the server's URL, directory and pid, and the command.
local HEAD = [[
local co = mp.co
local URL, DIR, PID, COMMAND, SERVER = %q, %q, %d, %q, %q
local function open(options)
  local all = { lease = 2 }
  for k, v in pairs(options or {}) do all[k] = v end
  return mp.Manager(URL, all)
end
local function matches(text, pattern) raises(pattern, error, tostring(text), 0) end
-- Commands of the server's own tool.
local function cli(...)
  local r = assert(mp.subprocess.run{ "redis-cli", "-s", DIR .. "/socket", ... })
  return r.stdout
end
-- A server of the same directory, once it answers.
local function start_again(...)
  local p = mp.subprocess.Popen{ SERVER, "--port", "0", "--unixsocket", DIR .. "/socket", "--dir", DIR,
    "--save", "", stdout = "pipe", ... }
  repeat local line = p:read "l" until line:find "[Rr]eady to accept"
  return p
end
]]

-- A way to the server that can be made bad, where COMMAND and DIR are: LINE is its URL, line(words) tells the proxy.
redis.LINE = [[
local proxy = mp.subprocess.Popen{ COMMAND, "spec/support/proxy.lua", DIR .. "/socket", stdin = "pipe",
  stdout = "pipe" }
local LINE = "redis://127.0.0.1:" .. proxy:read "l"
local function line(words)
  proxy:write(words .. "\n")
  eq(proxy:read "l", "done")
end
]]

function redis.head(server) return HEAD:format(server.url, server.dir, server.pid, support.command, redis.program) end

--- Runs a program with a server of its own.
function redis.with_server(arguments, code, opts)
  local server = redis.start(arguments)
  local ok, err = pcall(support.ok, redis.head(server) .. code, opts)
  redis.remove(server)
  if not ok then error(err, 0) end
end

local PLACE <const> = "local URL, DIR, NAMESPACE = %q, %q, %q\n"

--- A function (code, opts) that runs a scenario behind `head`, in a namespace of its own; all of a file have one
--- server, which the file's setup and teardown start and end.
function redis.scenarios(head, setup, teardown)
  local server, count = nil, 0
  setup(function() server = redis.start() end)
  teardown(function() redis.remove(server) end)
  return function(code, opts)
    count = count + 1
    return support.ok(PLACE:format(server.url, server.dir, "space" .. count) .. head .. code, opts)
  end
end

return redis
