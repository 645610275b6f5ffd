--- http.serve: a server of HTTP. libmicrohttpd does the protocol; a task of its own runs the handler
--- for each request. Accepting, workers, limits and the stop are those of mp.server.
local core = require "mpengine.core"
local check = require "mpengine.check"
local server = require "mpengine.server"
local tls = require "mpengine.http.tls"
local answers = require "mpengine.http.answers"
local Request = require "mpengine.http.request"

local serve = {}

local DEFAULT_PORT <const> = 8080
local DEFAULT_TIMEOUT <const> = 60
local DEFAULT_MAX_BODY <const> = 16 << 20
local LINGER_SECONDS <const> = 5 -- for a peer that still sends when its request was refused
local LINGER_PIECE <const> = 64 << 10

-- ---- one process ------------------------------------------------------------------------------

---@class mpengine.http.Acceptor: mpengine.server.Acceptor gives its connections to a daemon
---@field httpd userdata
---@field open integer connections of this process
local Acceptor = setmetatable({}, { __index = server.Acceptor })
Acceptor.__index = Acceptor
serve.Acceptor = Acceptor

local function serve_request(request)
    local req <close> = request
    answers.give(req, req.acceptor.handler(req))
end

function Acceptor:begin(raw, method, target, path, body)
    local req = setmetatable({
        raw = raw, method = method, target = target, path = path, body = body, acceptor = self,
    }, Request)
    self:count(server.REQUESTS, 1)
    req.task = core.spawn_task(serve_request, req)
    self.running[req.task] = req
end

function Acceptor:connections_ended(n)
    self.open = self.open - n
    self:count(server.OPEN, -n)
    for _ = 1, self.room and n or 0 do self.room:release() end
    self.ended:set()
end

--- Reads what a peer still sends, so that the answer which it has not read yet is not lost.
local function linger(self, fd)
    local socket <close> = core.socket_copy(fd)
    core.fd_close(fd)
    local deadline = core.now() + LINGER_SECONDS
    local data = true
    while socket and data and core.now() < deadline do
        socket:settimeout(math.max(0, deadline - core.now()))
        data = socket:receive(LINGER_PIECE)
    end
    self:connections_ended(1)
end

--- Takes what the daemon has until it is closed.
function Acceptor:take_all()
    local httpd = self.httpd
    while true do
        local what, more, target, path, body = httpd:next()
        if target then
            self:begin(what, more, target, path, body)
        elseif what then
            self:connections_ended(what)
        elseif what == false then
            core.spawn(linger, self, more)
        else
            return
        end
    end
end

local function open_daemon(options)
    local httpd, why = core.httpd(options)
    if not httpd then error("http.serve: " .. why:gsub("%s+$", ""), 0) end
    return httpd
end

function Acceptor.new(class, listener, settings, counts, at)
    local self = server.Acceptor.new(class, listener, settings, counts, at)
    self.open, self.max_body = 0, settings.daemon.max_body
    self.httpd = open_daemon(settings.daemon)
    core.spawn(self.take_all, self)
    return self
end

function Acceptor:serve(socket)
    local fd = socket:getfd()
    socket:setfd(-1) -- the daemon closes it
    self.open = self.open + 1
    self:count(server.ACCEPTED, 1)
    self:count(server.OPEN, 1)
    if not self.httpd:add(fd) then self:connections_ended(1) end
end

function Acceptor:is_busy() return self.open > 0 end

function Acceptor:end_idle() self.httpd:drain() end

function Acceptor:close()
    self.httpd:close()
    self:connections_ended(self.open)
end

-- ---- settings ---------------------------------------------------------------------------------

local fields = {
    max_body = { function(v) return math.type(v) == "integer" and v >= 0 end, "an integer, 0 or more" },
    timeout = { function(v) return type(v) == "number" and v > 0 end, "a number of seconds, more than 0" },
    stream = { function(v) return type(v) == "boolean" end, "a boolean" },
    tls = { function(v) return type(v) == "table" end, "a table with the fields cert and key" },
}
for name, field in pairs(server.fields) do fields[name] = field end

--- A server of HTTP: handler(req) runs in a task of its own for each request, and returns its answer:
--- a status, headers, and a body.
---@param settings table see docs/servers.md
---@return mpengine.server.Server
function serve.serve(settings)
    check.type("http.serve", 1, settings, "table")
    local daemon = {}
    local made = server.new("mpengine.http.serve", "http.serve", settings, fields,
        { daemon = daemon, port = DEFAULT_PORT })
    daemon.timeout, daemon.streams = settings.timeout or DEFAULT_TIMEOUT, settings.stream
    daemon.max_body = settings.max_body or not settings.stream and DEFAULT_MAX_BODY or nil
    if settings.tls then daemon.cert, daemon.key = tls.load("http.serve", settings.tls) end
    open_daemon(daemon):close() -- what is wrong is found here, and not in each worker
    made.counted = server.REQUESTS
    return made
end

return serve
