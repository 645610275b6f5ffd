-- A web server with two workers: JSON over a shared dict, and a page that follows the dict by a WebSocket.
-- usage: web.lua [PORT]     with a port it serves until SIGTERM
--   GET /api/NAME   PUT /api/NAME (a number)   POST /api/NAME (adds one)   GET /   a WebSocket at /ws
-- Notice: a change that one worker makes is told by the WebSockets of both.
local mp = require "mpengine"
local co, http = mp.co, mp.http
local counts, changes, changed = mp.Dict(), mp.RawValue("q", 0), mp.Condition()

local PAGE = [[<!doctype html><title>counts</title><h1>counts</h1><pre id="all"></pre>
<button onclick="fetch('/api/clicks', { method: 'POST' })">click</button>
<script>
new WebSocket(`ws://${location.host}/ws`).onmessage = (m) => { document.getElementById("all").textContent = m.data; };
</script>]]

local function json(value)
  if type(value) ~= "table" then return type(value) == "string" and ("%q"):format(value) or tostring(value) end
  local fields = {}
  for k, v in pairs(value) do table.insert(fields, json(k) .. ":" .. json(v)) end
  table.sort(fields)
  return "{" .. table.concat(fields, ",") .. "}"
end

local function api(req, name)
  if req.method == "PUT" then counts[name] = tonumber(req.body) or error "a number is expected" end
  if req.method == "POST" then counts:incr(name, 1) end
  if req.method ~= "GET" then changes:add(1) end
  changed:with(changed.notify_all, changed)
  return 200, { ["Content-Type"] = "application/json" }, json { name = name, count = counts[name] or 0 }
end

local function wait_for_change(seen)
  changed:with(changed.wait_for, changed, function() return changes.value ~= seen end)
  return changes.value
end

local function follow(ws)
  local teller = co.spawn(function()
    local seen
    repeat seen = wait_for_change(seen) until not ws:send(json(counts:copy()))
  end)
  while ws:recv() do end -- until the page is closed
  teller:kill()
end

local s = http.serve { port = tonumber(arg[1]) or 0, workers = 2, handler = function(req)
  local name = req.path:match "^/api/([%w_]+)$"
  if name then return api(req, name) end
  if req.path == "/ws" then return req:websocket(follow) end
  return 200, { ["Content-Type"] = "text/html; charset=utf-8" }, PAGE
end }:start()
if arg[1] then return s:serve_forever() end
local url = ("http://127.0.0.1:%d/api/apples"):format(s.port)
print(http.put(url, "3").body)
co.joinall { co.spawn(http.post, url), co.spawn(http.post, url) }
print(http.get(url).body)
s:stop()
