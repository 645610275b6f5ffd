-- The server of rows/echo.lua on cqueues.
local cqueues = require "cqueues"
local socket = require "cqueues.socket"

local listener = socket.listen { host = "127.0.0.1", port = 0, nodelay = true }
listener:listen()
local loop = cqueues.new()
print((select(3, listener:localname())))
io.stdout:flush()

local function serve(connection)
  connection:setmode("bn", "bn")
  while true do
    local bytes = connection:read(64)
    if not bytes then return connection:close() end
    connection:write(bytes)
  end
end

loop:wrap(function()
  for connection in listener:clients() do loop:wrap(serve, connection) end
end)
assert(loop:loop())
