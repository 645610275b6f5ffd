-- A small TCP server for the specs: echoes lines. Prints its port and its pid,
-- then serves until it is killed.
--
--   together N KEY   answered with "together KEY" when N connections have said it
--   silence          no answer
--   bye              the connection is closed
--   anything else    the same line back
local socket = require "socket"

local listener = assert(socket.bind("127.0.0.1", 0, 128))
local _, port = listener:getsockname()
local stat = assert(io.open("/proc/self/stat"))
print(math.tointeger(tonumber(port)), stat:read("n"))
stat:close()
io.stdout:flush()

local clients, waiting = {}, {}

local function forget(s)
  clients[s] = nil
  s:close()
end

local function handle(s, line)
  local n, key = line:match("^together (%d+) (%S+)$")
  if line == "bye" then
    forget(s)
  elseif n then
    local group = waiting[key] or {}
    waiting[key] = group
    group[#group + 1] = s
    if #group >= tonumber(n) then
      waiting[key] = nil
      for _, other in ipairs(group) do other:send("together " .. key .. "\n") end
    end
  elseif line ~= "silence" then
    s:settimeout(nil)
    s:send(line .. "\n")
    s:settimeout(0)
  end
end

while true do
  local reading = { listener }
  for s in pairs(clients) do reading[#reading + 1] = s end
  for _, s in ipairs((socket.select(reading))) do
    if s == listener then
      local client = listener:accept()
      if client then
        client:settimeout(0)
        clients[client] = ""
      end
    elseif clients[s] then
      local data, err, partial = s:receive(65536)
      local text = clients[s] .. (data or partial or "")
      local from = 1
      while clients[s] do
        local to = text:find("\n", from, true)
        if not to then break end
        handle(s, text:sub(from, to - 1))
        from = to + 1
      end
      if clients[s] then clients[s] = text:sub(from) end
      if err == "closed" and clients[s] then forget(s) end
    end
  end
end
