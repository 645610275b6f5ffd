-- An echo server: a task for each connection, over patched LuaSocket. Prints its port; the load is raw/echo.c.
local mp = require "mpengine"
mp.monkey.patch_all()
local socket = require "socket"

local listener = assert(socket.bind("127.0.0.1", 0, 1024))
print((select(2, listener:getsockname())))

local function serve(connection)
  connection:setoption("tcp-nodelay", true)
  while true do
    local bytes = connection:receive(64)
    if not bytes then return connection:close() end
    connection:send(bytes)
  end
end

while true do mp.co.spawn(serve, listener:accept()) end
