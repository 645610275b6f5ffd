-- A bad line to a server on the socket of a path: usage: proxy.lua PATH. Prints its port on the loopback address, then
-- obeys lines of its input and answers each with "done".
--
--   calm          passes all bytes on
--   every N       cuts each connection after 1 to N bytes of replies, at random
--   delay MS      passes replies on so much later
--   hold          passes nothing on, in neither direction, and closes nothing
--   cut           cuts all connections
--   refuse        cuts all connections, and new ones at once
--   half          ends the replies of all connections, as a shutdown does; requests still pass
local uv = require "luv"
require "mpengine".signal("PIPE", "ignore")

local path = assert(arg[1], "the path of a socket is expected")
local links, mode, value = {}, "calm", 0

local function close(handle)
  if not handle:is_closing() then handle:close() end
end

local function cut(link)
  if not links[link] then return end
  links[link] = nil
  close(link.client)
  close(link.server)
end

local function pass(link, to, bytes)
  if links[link] and not to:is_closing() then to:write(bytes, function(err) if err then cut(link) end end) end
end

local function later(ms, f)
  local timer = uv.new_timer()
  timer:start(ms, 0, function()
    close(timer)
    f()
  end)
end

local function reply(link, bytes)
  if mode == "every" then
    link.left = (link.left or math.random(value)) - #bytes
    if link.left > 0 then return pass(link, link.client, bytes) end
    local kept = #bytes + link.left
    if kept == 0 then return cut(link) end
    link.client:write(bytes:sub(1, kept), function() cut(link) end)
  elseif mode == "delay" or link.late > 0 then -- in their order
    link.late = link.late + 1
    later(math.max(link.due - uv.now(), mode == "delay" and value or 0), function()
      link.late = link.late - 1
      pass(link, link.client, bytes)
    end)
    link.due = math.max(link.due, uv.now() + (mode == "delay" and value or 0))
  else
    pass(link, link.client, bytes)
  end
end

local function forward(link, from, deliver)
  from:read_start(function(err, bytes)
    if err or not bytes then return cut(link) end
    if mode == "hold" then
      link.held[#link.held + 1] = { deliver, bytes }
    else
      deliver(bytes)
    end
  end)
end

local function accept(listener)
  local link = { client = uv.new_tcp(), server = uv.new_pipe(false), held = {}, late = 0, due = 0 }
  listener:accept(link.client)
  links[link] = true
  if mode == "refuse" then return cut(link) end
  link.server:connect(path, function(err)
    if err or not links[link] then return cut(link) end
    forward(link, link.client, function(bytes) pass(link, link.server, bytes) end)
    forward(link, link.server, function(bytes) reply(link, bytes) end)
  end)
end

local function release()
  for link in pairs(links) do
    local held = link.held
    link.held = {}
    for _, entry in ipairs(held) do entry[1](entry[2]) end
  end
end

local function obey(word, number)
  if word == "cut" or word == "half" then
    for link in pairs(links) do
      if word == "cut" then cut(link) else link.client:shutdown() end
    end
    return
  end
  local was_held = mode == "hold"
  mode, value = word, number
  if mode == "refuse" then for link in pairs(links) do cut(link) end end
  for link in pairs(links) do link.left = nil end
  if was_held then release() end
end

local listener = uv.new_tcp()
listener:bind("127.0.0.1", 0)
listener:listen(128, function() accept(listener) end)
print(listener:getsockname().port)
io.stdout:flush()

local input, rest = uv.new_pipe(false), ""
input:open(0)
input:read_start(function(_, bytes)
  if not bytes then os.exit(0) end
  rest = rest .. bytes
  for line in rest:gmatch "([^\n]*)\n" do
    local word, number = line:match "^(%a+) ?(%d*)$"
    obey(word, tonumber(number))
    print "done"
    io.stdout:flush()
  end
  rest = rest:match "[^\n]*$"
end)
uv.run()
