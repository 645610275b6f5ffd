--- mp.server: servers of streams. One task accepts; each connection has a task of its own. With
--- workers, so many processes share the listening socket, and the main process only watches them.
--- mp.http.serve is built on the same: it has an acceptor of its own, for what is behind the accept.
local core = require "mpengine.core"
local check = require "mpengine.check"
local names = require "mpengine.names"
local context = require "mpengine.contexts"
local tasks = require "mpengine.co.tasks"
local waiting = require "mpengine.co.wait"
local events = require "mpengine.co.events"
local locks = require "mpengine.co.locks"
local errors = require "mpengine.errors"
local restart = require "mpengine.restart"
local notify = require "mpengine.notify"

local server = {}

local STOP_SECONDS = 10                       -- for handlers that run when the server stops
local EXIT_SECONDS = 2                        -- beyond that, for a worker to exit
local BACK_OFF_FIRST, BACK_OFF_MOST = 0.1, 10 -- before a worker that ended soon is replaced
local SOON_SECONDS = 1
local FULL_SECONDS = 1 -- between two tries while there is no descriptor and no connection ends
local EMFILE, ENFILE, ENOBUFS, ENOMEM = 24, 23, 105, 12

local FULL = { [EMFILE] = true, [ENFILE] = true, [ENOBUFS] = true, [ENOMEM] = true }

-- Counts of a process, in a shared array: see stats. The last is for servers that count requests.
local ACCEPTED, OPEN, FAILED, COUNTS = 1, 2, 3, 4
local COUNTED = { "accepted", "open", "failed", "requests" }
server.ACCEPTED, server.OPEN, server.FAILED, server.REQUESTS = ACCEPTED, OPEN, FAILED, 4

-- ---- one process ------------------------------------------------------------------------------

---@class mpengine.server.Acceptor accepts connections in this process
---@field listener userdata
---@field handler fun(socket: userdata, peer: string)
---@field room mpengine.co.Semaphore? connections that may be opened
---@field context userdata? of TLS
---@field handshake number? seconds
---@field running table<mp.Task, table> the connection of each task
---@field ended mpengine.co.Event set when a connection ends
---@field counts userdata shared array
---@field at integer before the first of its counts
local Acceptor = {}
Acceptor.__index = Acceptor
server.Acceptor = Acceptor

function Acceptor.new(class, listener, settings, counts, at)
    local tls = settings.tls and require "mpengine.server.tls"
    return setmetatable({
        context = tls and tls.context("StreamServer", settings.tls), handshake = tls and settings.tls.timeout,
        listener = listener, handler = settings.handler, running = {},
        ended = events.Event(), counts = counts, at = at,
        room = settings.max_connections and locks.Semaphore(settings.max_connections),
    }, class)
end

--- That of the module which the settings name.
local function new_acceptor(listener, settings, counts, at)
    return require(settings.module).Acceptor:new(listener, settings, counts, at)
end

function Acceptor:count(which, n) self.counts:add(self.at + which, n) end

--- The end of a connection, however it came.
local Connection = {}

function Connection.__close(self, err)
    local acceptor = self.acceptor
    self.socket:close()
    acceptor.running[self.task] = nil
    acceptor:count(OPEN, -1)
    if err ~= nil and not self.stopped then acceptor:count(FAILED, 1) end
    if acceptor.room then acceptor.room:release() end
    acceptor.ended:set()
end

local function peer_of(socket)
    local address, port = socket:getpeername()
    if not address then return "unknown" end
    return (address:find(":", 1, true) and "[" .. address .. "]:" or address .. ":") .. port
end

--- A connection that does not shake hands, or not in time, is closed and counts as failed.
local function start_tls(connection)
    local tls, acceptor = require "mpengine.server.tls", connection.acceptor
    local socket = tls.wrap(connection.socket, acceptor.context)
    if socket then
        connection.socket = socket
        if tls.shake_hands(socket, acceptor.handshake) then return true end
    end
    acceptor:count(FAILED, 1)
    return false
end

local function serve_connection(connected)
    local connection <close> = connected
    local peer = peer_of(connection.socket)
    connection.task.name = "connection of " .. peer
    if connection.acceptor.context and not start_tls(connection) then return end
    connection.acceptor.handler(connection.socket, peer)
end

--- From here on the connection is known, also while its task has not begun.
function Acceptor:serve(socket)
    local connection = setmetatable({ acceptor = self, socket = socket }, Connection)
    self:count(ACCEPTED, 1)
    self:count(OPEN, 1)
    connection.task = core.spawn_task(serve_connection, connection)
    self.running[connection.task] = connection
end

--- There is no descriptor: waits until a connection ends, or other files may have been closed.
function Acceptor:wait_for_room()
    self.ended:clear()
    self.ended:wait(FULL_SECONDS)
end

--- Accepts until the listener is closed.
function Acceptor:accept_all()
    while true do
        if self.room then self.room:acquire() end
        local socket, why, errno = self.listener:accept()
        if socket then
            self:serve(socket)
        else
            if self.room then self.room:release() end
            if why == "closed" then return end
            if FULL[errno] then self:wait_for_room() else error("accept: " .. tostring(why), 0) end
        end
    end
end

--- Are there connections that the end of the server waits for?
function Acceptor:is_busy() return next(self.running) ~= nil end

--- Nothing more is accepted: the connections without a handler may be closed.
function Acceptor:end_idle() end

--- The handlers have ended, or been killed. A task that was killed before it began closed nothing.
function Acceptor:close(left)
    for _, task in ipairs(left) do
        local connection = self.running[task]
        if connection and task:ready() then Connection.__close(connection) end
    end
end

--- Stops accepting, waits for the handlers, and cancels those that are left.
function Acceptor:stop(seconds)
    self.listener:close()
    self:end_idle()
    local deadline = core.now() + seconds
    while self:is_busy() do
        self.ended:clear()
        if not self.ended:wait(math.max(0, deadline - core.now())) then break end
    end
    local left = {}
    for task, connection in pairs(self.running) do
        connection.stopped = true
        left[#left + 1] = task
    end
    tasks.killall(left, "the server stops")
    waiting.joinall(left, EXIT_SECONDS)
    self:close(left)
end

-- ---- a worker ---------------------------------------------------------------------------------

--- The main function of a worker, which has the listener from its parent: serves until `stop` is set.
function server.work(listener, settings, counts, at, stop, seconds)
    local acceptor = new_acceptor(listener, settings, counts, at)
    local accepting = core.spawn_task(acceptor.accept_all, acceptor)
    local ready = waiting.wait({ stop, accepting }, nil, 1)
    acceptor:stop(seconds.value)
    if ready[1] == accepting then accepting:get() end -- raises what ended it
end

-- ---- the server -------------------------------------------------------------------------------

---@class mpengine.server.Server a StreamServer, or what http.serve gives
---@field port integer after start
local Server = { __name = "mp.server.Server" }
Server.__index = Server

function Server:__tostring()
    return ("mp.%s: %s:%s (%s)"):format(self.kind, self.host, tostring(self.port), self.state)
end

local function start_worker(self, i)
    local worker = self.context.Process {
        name = ("%s-%d"):format(self.name, i), daemon = true, target = server.work,
        args = { self.listener, self.settings, self.counts, i * COUNTS, self.stopping, self.seconds },
    }
    worker:start()
    self.workers[i] = worker
    return core.now()
end

--- Starts others in the place of a worker, until the server stops.
local function keep_worker(self, i, began)
    local pauses = restart.pauses(BACK_OFF_FIRST, BACK_OFF_MOST)
    while true do
        local worker = self.workers[i]
        worker:join()
        if self.state ~= "serving" then return end
        self.counts[i * COUNTS + OPEN] = 0
        if core.now() - began > SOON_SECONDS then pauses:reset() end
        local pause = pauses:take()
        core.report(1, ("%s: worker %s (pid %d) ended with %s; the next one starts in %.1f s"):format(
            self.name, worker.name, worker.pid, tostring(worker.exitcode), pause))
        self.stopping:wait(pause)
        local ok, result
        while not ok and self.state == "serving" do
            ok, result = pcall(start_worker, self, i)
            if ok then break end
            core.report(1, ("%s: worker %d cannot be started: %s"):format(self.name, i, errors.message(result)))
            self.stopping:wait(pauses:take())
        end
        if not ok then return end
        began = result
    end
end

local function numeric(host)
    if host == "*" or core.is_address(host) then return host end
    local list, why = names.dns.getaddrinfo(host)
    if not list then return nil, why end
    return list[1].addr
end

--- Listens, and serves from now on. Raises when the address cannot be had.
---@return mpengine.server.Server self
function Server:start()
    if self.state ~= "new" then error(self.call .. ":start: the server was started before", 2) end
    local address, why = numeric(self.host)
    local listener
    if address then listener, why = core.listen(address, self.settings.port, self.settings.backlog) end
    if not listener then
        error(("%s:start: cannot listen on %s:%d: %s"):format(self.call, self.host, self.settings.port, why), 2)
    end
    self.listener, self.state = listener, "serving"
    self.port = select(2, listener:getsockname())
    if self.settings.workers == 0 then
        self.acceptor = new_acceptor(listener, self.settings, self.counts, 0)
        self.accepting = core.spawn_task(self.acceptor.accept_all, self.acceptor)
        return self
    end
    self.keepers = {}
    for i = 1, self.settings.workers do
        local ok, began = pcall(start_worker, self, i)
        if not ok then
            self:stop(0)
            error(began, 0)
        end
        self.keepers[i] = core.spawn_task(keep_worker, self, i, began)
    end
    return self
end

local function stop_workers(self, seconds)
    self.seconds.value = seconds
    self.stopping:set()
    self.listener:close()
    local deadline = core.now() + seconds + EXIT_SECONDS
    for _, worker in pairs(self.workers) do
        if not worker:join(math.max(0, deadline - core.now())) then worker:kill() end
    end
    waiting.joinall(self.keepers)
end

--- Stops accepting, lets the handlers that run end for so many seconds, then cancels them.
---@param seconds? number 10 when absent
function Server:stop(seconds)
    check.timeout(self.call .. ":stop", 1, seconds)
    if self.state == "stopping" then return self.stopped:wait() end
    if self.state ~= "serving" then
        self.state = "stopped"
        return true
    end
    self.state = "stopping"
    if self.acceptor then
        self.acceptor:stop(seconds or STOP_SECONDS)
        self.accepting:kill()
    else
        stop_workers(self, seconds or STOP_SECONDS)
    end
    self.state = "stopped"
    self.stopped:set()
    return true
end

--- SIGTERM has come.
local function terminate(self)
    notify.stopping()
    self:stop()
end

--- Serves until the server is stopped, by stop or by SIGTERM. A service manager is told when it listens.
function Server:serve_forever()
    if self.state == "new" then self:start() end
    local signals = require "mpengine.signal"
    local before = signals.signal("TERM", function() terminate(self) end)
    local function restore() signals.signal("TERM", before) end
    local restored <close> = setmetatable({}, { __close = restore }) -- luacheck: ignore 211
    local told <close> = notify.ready(("%s on %s:%d"):format(self.name, self.host, self.port)) -- luacheck: ignore 211
    if self.accepting then
        waiting.wait({ self.stopped, self.accepting }, nil, 1)
        if self.accepting:ready() and self.state == "serving" then self.accepting:get() end
    end
    self.stopped:wait()
end

--- Connections accepted, open, and ended by an error; with workers also those of each. Of a server
--- of requests also how many it has had.
---@return { accepted: integer, open: integer, failed: integer, requests: integer?, workers: table[]? }
function Server:stats()
    local sum = {}
    local list = self.settings.workers > 0 and {} or nil
    for i = list and 1 or 0, self.settings.workers do
        local one = {}
        for k = 1, self.counted do
            local n = self.counts[i * COUNTS + k]
            one[COUNTED[k]] = n
            sum[COUNTED[k]] = (sum[COUNTED[k]] or 0) + n
        end
        if list then
            one.pid = self.workers[i] and self.workers[i].pid
            list[i] = one
        end
    end
    sum.workers = list
    return sum
end

function Server:__close() self:stop(0) end

-- ---- settings ---------------------------------------------------------------------------------

local function integer(least, most)
    return function(v) return math.type(v) == "integer" and v >= least and v <= most end,
        ("an integer from %d to %d"):format(least, most)
end

local function type_of(name, article)
    return function(v) return type(v) == name end, (article or "a ") .. name
end

--- Those of every server: the expected value of each field.
server.fields = {
    host = { type_of "string" }, port = { integer(0, 65535) }, handler = { check.is_callable, "a function" },
    workers = { integer(0, 256) }, backlog = { integer(1, 1 << 20) }, max_connections = { integer(1, 1 << 30) },
    name = { type_of "string" },
}

local stream_fields = { tls = { function(v) return type(v) == "table" or type(v) == "userdata" end,
    "a table with the fields cert and key, or a context of LuaSec" } }
for name, field in pairs(server.fields) do stream_fields[name] = field end

--- Checks the settings that all servers have, and makes a server that was not started.
---@param module string that has its Acceptor
---@param call string the name of the call, in messages
---@param settings table
---@param known table the fields it may have
---@param all table what the acceptor needs beside those of every server
---@return mpengine.server.Server
function server.new(module, call, settings, known, all)
    check.type(call, 1, settings, "table")
    check.settings(call, settings, known)
    if settings.handler == nil then
        error(("%s: field 'handler' must be a function, got no value"):format(call), 3)
    end
    local mp = require "mpengine"
    all.module, all.handler = module, settings.handler
    all.port, all.workers = settings.port or all.port or 0, settings.workers or 0
    all.backlog, all.max_connections = settings.backlog or 1024, settings.max_connections
    return setmetatable({
        host = settings.host or "127.0.0.1", name = settings.name or "server", settings = all,
        call = call, kind = call, counted = FAILED, state = "new", workers = {},
        counts = mp.RawArray("q", (all.workers + 1) * COUNTS), stopping = mp.Event(), seconds = mp.RawValue("d", 0),
        stopped = events.Event(), context = context.get_context(),
    }, Server)
end

--- A server of streams: handler(socket, peer) runs in a task of its own for each connection, whose
--- end closes it. The socket has the methods of LuaSocket's, which suspend only the task.
---@param settings table see docs/servers.md
---@return mpengine.server.Server
function server.StreamServer(settings)
    local new = server.new("mpengine.server", "StreamServer", settings, stream_fields, {})
    new.kind = "server.StreamServer"
    if settings.tls then
        new.settings.tls = require "mpengine.server.tls".prepare("StreamServer", settings.tls, new.settings.workers > 0)
    end
    return new
end

return server
