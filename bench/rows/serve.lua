-- A server of HTTP. usage: serve.lua http|ws WORKERS   prints its port; the load is raw/echo.c.
local mp = require "mpengine"
local protocol, workers = arg[1], tonumber(arg[2])

local function echo(ws)
  for message, kind in function() return ws:recv() end do ws:send(message, kind) end
end

local handlers = {
  http = function() return 200, { ["Content-Type"] = "text/plain" }, "hello" end,
  ws = function(req) return req:websocket(echo) end,
}

local s = mp.http.serve { port = 0, workers = workers, handler = handlers[protocol] }:start()
print(s.port)
io.stdout:flush()
s:serve_forever()
