-- An echo server with two workers that share the listening socket; its clients here are tasks.
-- usage: server.lua [PORT]     with a port it serves until SIGTERM
-- Notice: answers come from the workers; a wait of a handler suspends only its own connection.
local mp = require "mpengine"

local s = mp.server.StreamServer {
  port = tonumber(arg[1]) or 0,
  workers = 2,
  handler = function(socket) -- a task for each connection
    for line in function() return (socket:receive()) end do
      socket:send(("%d: %s\n"):format(mp.current_process().pid, line))
    end
  end,
}
s:start()
if arg[1] then return s:serve_forever() end

mp.monkey.patch_all()
local socket = require "socket"

local function ask(text)
  local c = assert(socket.connect("127.0.0.1", s.port))
  c:send(text .. "\n")
  local pid, answer = c:receive():match "^(%d+): (.*)$"
  c:close()
  return answer, tonumber(pid) ~= mp.current_process().pid and "by a worker"
end

local asked = {}
for i = 1, 10 do asked[i] = mp.co.spawn(ask, "hello " .. i) end
for i = 1, 10 do print(asked[i]:get()) end
s:stop()
print "stopped"
