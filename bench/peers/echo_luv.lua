-- The server of rows/echo.lua by callbacks of luv.
local uv = require "luv"

local listener = uv.new_tcp()
listener:bind("127.0.0.1", 0)
listener:listen(1024, function()
  local connection = uv.new_tcp()
  listener:accept(connection)
  connection:nodelay(true)
  connection:read_start(function(_, bytes)
    if bytes then connection:write(bytes) else connection:close() end
  end)
end)
print(listener:getsockname().port)
io.stdout:flush()
uv.run()
