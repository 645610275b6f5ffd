-- A small HTTP server for the specs: one process, any number of connections,
-- keep-alive. Prints its port and its pid, then serves until it is killed.
--
--   /hello               hello
--   /bytes/N             N bytes
--   /status/N            that status
--   /echo                method, path, headers and body of the request, as text
--   /together/N/KEY      answers none until N requests with that KEY wait
--   /never               no answer
--   /stall               half an answer, then nothing
--   /drop                closes without an answer
--   /chunked             hello, in three chunks
--   /redirect/N          a chain of N redirects to /hello
--   /loop                a redirect to itself
--   /to/CODE?URL         a redirect with that status to that URL, with a body of its own
--   /chunks              the method and the size of a body that comes in chunks
--   /cookies             two lines of Set-Cookie
--   /cookie/set          sets taste=sweet       /cookie/get   the Cookie header
--   /auth                200 for user:pw, else 401
--   /connection          which connection of this server this is
--   /waiting/KEY         how many wait under that KEY
local socket = require "socket"

local listener = assert(socket.bind("127.0.0.1", 0, 128))
local _, port = listener:getsockname()
local stat = assert(io.open("/proc/self/stat"))
print(math.tointeger(tonumber(port)), stat:read("n"))
stat:close()
io.stdout:flush()
listener:settimeout(0)

local REASONS = { [200] = "OK", [302] = "Found", [401] = "Unauthorized", [404] = "Not Found" }
local connections, count = {}, 0
local together = {}

local function close(c)
  connections[c.socket] = nil
  c.socket:close()
end

local function flush(c)
  while #c.out > 0 do
    local last, err, partial = c.socket:send(c.out)
    c.out = c.out:sub((last or partial or 0) + 1)
    if err == "timeout" then return end
    if err then return close(c) end
  end
  if c.closing then close(c) end
end

local function answer(c, status, body, headers)
  local lines = { ("HTTP/1.1 %d %s"):format(status, REASONS[status] or "Other") }
  lines[#lines + 1] = "Content-Length: " .. #body
  lines[#lines + 1] = "X-Server: spec"
  for _, h in ipairs(headers or {}) do lines[#lines + 1] = h end
  if c.request.close then
    lines[#lines + 1] = "Connection: close"
    c.closing = true
  end
  if c.request.method == "HEAD" then body = "" end
  c.out = c.out .. table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
  flush(c)
end

local routes = {}
function routes.hello(c) answer(c, 200, "hello") end
function routes.bytes(c, n) answer(c, 200, ("x"):rep(math.tointeger(tonumber(n)))) end
function routes.status(c, n) answer(c, math.tointeger(tonumber(n)), "status " .. n) end
function routes.echo(c)
  local r = c.request
  answer(c, 200, r.method .. " " .. r.path .. "\n" .. r.head .. "\n\n" .. r.body)
end
function routes.together(c, n, key)
  local group = together[key] or {}
  together[key] = group
  group[#group + 1] = c
  if #group >= tonumber(n) then
    together[key] = nil
    for _, other in ipairs(group) do answer(other, 200, "together " .. key) end
  end
end
function routes.waiting(c, key) answer(c, 200, tostring(together[key] and #together[key] or 0)) end
function routes.never() end
function routes.stall(c)
  c.out = c.out .. "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
  flush(c)
end
function routes.drop(c) close(c) end
function routes.chunked(c)
  c.out = c.out .. "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n2\r\nll\r\n1\r\no\r\n0\r\n\r\n"
  flush(c)
end
function routes.redirect(c, n)
  n = math.tointeger(tonumber(n))
  answer(c, 302, "", { "Location: " .. (n > 1 and "/redirect/" .. n - 1 or "/hello") })
end
function routes.to(c, code)
  answer(c, math.tointeger(tonumber(code)), "moved", { "Location: " .. c.request.path:match "%?(.*)" })
end
function routes.chunks(c) answer(c, 200, ("%s %d"):format(c.request.method, #c.request.body)) end
function routes.cookies(c)
  answer(c, 200, "", { "Set-Cookie: a=1; Expires=Wed, 09 Jun 2032 10:18:14 GMT", "set-cookie: b=2" })
end
function routes.loop(c) answer(c, 302, "", { "Location: /loop" }) end
function routes.cookie(c, what)
  if what == "set" then return answer(c, 200, "set", { "Set-Cookie: taste=sweet; Path=/" }) end
  answer(c, 200, c.request.head:match("[Cc]ookie: ([^\r\n]*)") or "none")
end
function routes.auth(c)
  -- "user:pw" in base 64
  if c.request.head:find("Basic dXNlcjpwdw==", 1, true) then return answer(c, 200, "welcome") end
  answer(c, 401, "who are you", { 'WWW-Authenticate: Basic realm="spec"' })
end
function routes.connection(c) answer(c, 200, tostring(c.number)) end

-- The body that these chunks are, and what comes after it; nil: there is more to come.
local function next_chunks(text)
  local pieces, at = {}, 1
  while true do
    local size, from = text:match("^(%x+)\r\n()", at)
    size = size and tonumber(size, 16)
    if not size or #text < from + size + 1 then return nil end
    if size == 0 then return table.concat(pieces), text:sub(from + 2) end
    pieces[#pieces + 1] = text:sub(from, from + size - 1)
    at = from + size + 2
  end
end

-- Takes one whole request off the input, if there is one.
local function next_request(c)
  local head, rest = c.input:match("^(.-)\r\n\r\n(.*)$")
  if not head then return nil end
  local length = tonumber(head:lower():match("content%-length: *(%d+)") or 0)
  if head:lower():find("expect: 100-continue", 1, true) and not c.continued then
    c.continued = true
    c.out = c.out .. "HTTP/1.1 100 Continue\r\n\r\n"
    flush(c)
  end
  local body
  if head:lower():find("transfer-encoding: chunked", 1, true) then
    body, rest = next_chunks(rest)
    if not body then return nil end
  elseif #rest < length then
    return nil
  else
    body, rest = rest:sub(1, length), rest:sub(length + 1)
  end
  c.continued = false
  c.input = rest
  local method, path, version = head:match("^(%S+) (%S+) (%S+)")
  return {
    method = method, path = path, head = head:gsub("\r", ""), body = body,
    close = version == "HTTP/1.0" or head:lower():find("connection: close", 1, true) ~= nil,
  }
end

local function serve(c)
  while connections[c.socket] do
    local request = next_request(c)
    if not request then return end
    c.request = request
    local path = request.path:gsub("^%w+://[^/]*", "")
    local words = {}
    for w in path:gsub("%?.*", ""):gmatch("[^/]+") do words[#words + 1] = w end
    local route = routes[words[1] or ""]
    if route then route(c, words[2], words[3]) else answer(c, 404, "no such page") end
  end
end

local function receive(c)
  local data, err, partial = c.socket:receive(65536)
  c.input = c.input .. (data or partial or "")
  serve(c)
  if err == "closed" and connections[c.socket] then close(c) end
end

local function accept()
  local s = listener:accept()
  if not s then return end
  s:settimeout(0)
  s:setoption("tcp-nodelay", true)
  count = count + 1
  connections[s] = { socket = s, input = "", out = "", number = count }
end

while true do
  local reading, writing = { listener }, {}
  for s, c in pairs(connections) do
    reading[#reading + 1] = s
    if #c.out > 0 then writing[#writing + 1] = s end
  end
  local readable, writable = socket.select(reading, writing)
  for _, s in ipairs(writable) do
    if connections[s] then flush(connections[s]) end
  end
  for _, s in ipairs(readable) do
    if s == listener then accept() elseif connections[s] then receive(connections[s]) end
  end
end
