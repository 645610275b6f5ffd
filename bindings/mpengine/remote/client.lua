--- What one process has to do with one Redis: its connections, and commands that outlast an outage. There is one
--- client for a manager in a process; a child makes its own.
local core = require "mpengine.core"
local connection = require "mpengine.remote.connection"
local errors = require "mpengine.errors"
local restart = require "mpengine.restart"
local turn = require "mpengine.remote.turn"
local Event = require("mpengine.co").Event

local client = {}

client.BLOCK = 10 -- seconds of one read of the mailbox

local FIRST_PAUSE <const>, LAST_PAUSE <const> = 0.05, 2 -- seconds between attempts
local JITTER <const> = 0.5 -- many clients lose a server at once
local OVER <const> = 200 -- numbers of changes that are over, told with one command

---@class mpengine.remote.Client
---@field address mpengine.remote.Address
---@field prefix string of all keys of the namespace
---@field id string of this process
---@field timeout number seconds that a call outlasts an outage
---@field lease number seconds
local Client = {}
Client.__index = Client
client.Client = Client

local function raise(kind, message)
    error(errors.new { kind = kind, message = message }, 0)
end

local function pauses() return restart.pauses(FIRST_PAUSE, LAST_PAUSE, JITTER) end

local function is_away(err) return errors.is(err) and err.kind == "disconnected" end

local function repeat_until_done(f)
    local ok, err
    repeat ok, err = pcall(f) until ok or not is_away(err)
end

-- ---- connecting ------------------------------------------------------------------------------

local function failed(self, why)
    if self.address.path then why = why:match "%(([^()]+)%)$" or why end -- libcurl names a host and a port
    return ("cannot connect to %s: %s"):format(self.address.shown, why)
end

--- What a server says that is about to be ready, or is another's replica for a moment.
local PASSING = { LOADING = true, BUSY = true, MASTERDOWN = true, TRYAGAIN = true, READONLY = true,
    CLUSTERDOWN = true }

local function is_passing(text) return PASSING[text:match("^%u+") or ""] == true end
client.is_passing = is_passing

--- Opens a connection, with more and more time between attempts. Raises at the deadline, or when the server refuses
--- name and password.
local function open(self, name, deadline, once)
    local attempts = pauses()
    while true do
        local limit = math.min(deadline, core.now() + math.max(0.1, self.connect_timeout))
        local conn <close>, why, refused = connection.open(self.address,
            { ca = self.ca, name = "mpengine-" .. self.id, silence = name == "mail" and client.BLOCK + 2 }, limit)
        if conn and (name ~= "commands" or self:settle(conn, limit)) then return conn end
        if conn then
            why, refused = conn.lost or "timeout", false
            conn:close(why)
        end
        if refused and not is_passing(why) then raise("refused", failed(self, why)) end
        local pause = attempts:take()
        if once and not refused or core.now() + pause >= deadline then raise("disconnected", failed(self, why)) end
        core.sleep(pause)
    end
end

--- The connection of that name, opened by one task for all that need it.
---@param name "commands"|"mail"
---@param deadline number
---@param once boolean? no second attempt
function Client:connected(name, deadline, once)
    while true do
        local conn = self.connections[name]
        if conn and not conn.lost then return conn end
        local opening = self.opening[name]
        if not opening then break end
        if not opening:wait(math.max(0, deadline - core.now())) then
            raise("disconnected", failed(self, "timeout"))
        end
    end
    local event = Event()
    self.opening[name] = event
    local _ <close> = setmetatable({}, { __close = function()
        self.opening[name] = nil
        event:set()
    end })
    local conn = open(self, name, deadline, once)
    self.connections[name] = conn
    return conn
end

-- ---- commands --------------------------------------------------------------------------------

local function answer(self, reply)
    local value = reply.value
    if type(value) == "table" and value.err then
        if is_passing(value.err) then return nil, value.err end
        error(("%s: %s"):format(self.address.shown, value.err), 0)
    end
    return true, value
end

--- The reply to a command. A command that is safe to repeat is repeated after an outage. Another one may have been
--- carried out when its reply is lost, and the error says so.
---@param safe boolean
---@param words (string|number)[]|fun(): (string|number)[] a function makes those of a safe command each time it is sent
---@param deadline number? when to give up; else after `timeout`
---@param reply mpengine.remote.Reply? of Client:begin
function Client:command(safe, words, deadline, reply)
    local bytes = type(words) == "table" and core.redis_command(words)
    local limit = deadline or core.now() + self.timeout
    local attempts
    while true do
        local conn = self:connected("commands", limit)
        reply = reply or conn:ask(bytes or core.redis_command(words()), 1)[1]
        local heard = conn:wait(reply, limit)
        if heard and not reply.lost then
            local ok, value = answer(self, reply)
            if ok then return value end
            reply = nil
            attempts = attempts or pauses()
            local pause = attempts:take()
            if core.now() + pause >= limit then raise("disconnected", ("%s: %s"):format(self.address.shown, value)) end
            core.sleep(pause)
        elseif reply.sent and not safe then
            raise("maybe_applied", ("the reply of %s is lost (%s): %s may have been carried out"):format(
                self.address.shown, reply.lost or "timeout", words[1]))
        elseif core.now() >= limit then
            raise("disconnected", ("%s: no answer in time"):format(self.address.shown))
        else
            reply = nil
        end
    end
end

--- Sends a command that is safe to repeat, and whose reply no task waits for. When the connection is lost it is sent
--- again over the next one.
function Client:tell(words)
    local function again() core.spawn(repeat_until_done, function() self:command(true, words) end) end
    local conn = self.connections.commands
    if conn and not conn.lost then conn:tell(core.redis_command(words), again) else again() end
end

-- ---- scripts ---------------------------------------------------------------------------------

--- What every script begins with. KEYS[1] is the prefix of the namespace, so that all keys are of one
--- slot. Times are the server's, in milliseconds. An owner is alive until its deadline in `live`. It beats three
--- times in a lease, which ends its name; what it asks for is a beat too, one in a tenth of a lease.
---
--- When no beat of any was heard for half of the shortest lease (`beat`: the last one, that lease) the server was away,
--- from the last beat until now (`grace`). An owner that was alive when that began has one lease from then on. So the
--- first thing that is asked about a deadline is how long nothing was heard. A list of waiting tasks has "client token"
--- each.
local PRELUDE <const> = [[
local P = KEYS[1]
local call = redis.call
local function now()
    local t = call('TIME')
    return t[1] * 1000 + math.floor(t[2] / 1000)
end
local has_looked = false
local function look(at, lease)
    has_looked = true
    local last, least = (call('GET', P .. 'beat') or ''):match('^(%S+) (%S+)$')
    if not last and not lease then return end
    last, least = tonumber(last or at), tonumber(least or lease)
    local silence = at - last
    if silence > least / 2 then call('SET', P .. 'grace', last .. ' ' .. at) end
    if lease then least = silence > least and lease or math.min(least, lease) end
    call('SET', P .. 'beat', at .. ' ' .. least)
end
local function hear(client, lease, at)
    look(at, lease)
    call('ZADD', P .. 'live', at + lease, client)
end
local function beat(client, lease, at)
    local left = tonumber(call('ZSCORE', P .. 'live', client) or 0) - at
    if left <= 0.9 * lease or left > lease then hear(client, lease, at) end
end
local function deadline(client)
    if not has_looked then look(now()) end
    local till = tonumber(call('ZSCORE', P .. 'live', client) or 0)
    local from, to = (call('GET', P .. 'grace') or ''):match('^(%S+) (%S+)$')
    if from and tonumber(from) < till then till = math.max(till, to + client:match('%d+$')) end
    return till
end
local function pop_waiting(list, at)
    for i = 1, 1000 do
        local entry = call('LPOP', list)
        if not entry then return end
        local client, token = entry:match('^(%S+) (%S+)$')
        if deadline(client) > at then return client, token, entry end
    end
end
local function join(list, entry)
    if not call('LPOS', list, entry) then call('RPUSH', list, entry) end
end
-- A client that is forgotten gets no stream again.
local function mail(client, ...)
    if call('ZSCORE', P .. 'live', client) then call('XADD', P .. 'mail:' .. client, '*', ...) end
end
-- A change that must not be made twice has a number of its client's. It is known until the client says, with
-- a later change, that the number is over.
local function forget(client, over)
    if over ~= '' then
        local list = {}
        for old in over:gmatch('%S+') do list[#list + 1] = old end
        call('HDEL', P .. 'once:' .. client, unpack(list))
    end
end
-- A task leaves a list of waiting ones: whether it was in it. The answer is the same when it is asked again.
local function leave(list, client, token, over)
    forget(client, over)
    local once = P .. 'once:' .. client
    if call('LREM', list, 1, client .. ' ' .. token) == 1 then call('HSET', once, token, 1) end
    return call('HEXISTS', once, token) == 1
end
local function was_done(client, number, over)
    forget(client, over)
    return call('HEXISTS', P .. 'once:' .. client, number) == 1
end
-- Whether it was not noted before.
local function note_done(client, number) return call('HSETNX', P .. 'once:' .. client, number, 1) == 1 end
]]

---@class mpengine.remote.Script
---@field text string
---@field digest string? known once a server has it

--- A script of the server's. ARGV and KEYS[1] are its arguments.
---@param body string
---@return mpengine.remote.Script
function client.script(body)
    return { text = PRELUDE .. body }
end

-- What is left of a client that is dead for a day goes with it. One that comes back before finds its tasks.
local BEAT = client.script [[
local at = now()
hear(ARGV[1], tonumber(ARGV[2]), at)
for _, gone in ipairs(call('ZRANGEBYSCORE', P .. 'live', '-inf', at - 86400000, 'LIMIT', 0, 16)) do
    call('DEL', P .. 'mail:' .. gone, P .. 'tasks:' .. gone, P .. 'once:' .. gone)
    call('ZREM', P .. 'live', gone)
end
return 1
]]

--- The words of a command that runs a script the server has.
local function addressed(self, script, words)
    words[1], words[2], words[3], words[4] = "EVALSHA", script.digest, 1, self.prefix
    return words
end

--- The result of a script.
---@param safe boolean as for command
---@param script mpengine.remote.Script
---@param words (string|number)[]|fun(): (string|number)[] its arguments, from client.WORDS + 1 on; as for command
---@param reply mpengine.remote.Reply? of Client:begin
function Client:evaluate(safe, script, words, reply)
    local all = type(words) == "table" and words or function() return addressed(self, script, words()) end
    while true do
        if not script.digest then
            script.digest = self:command(true, { "SCRIPT", "LOAD", script.text })
        end
        if all == words then addressed(self, script, words) end
        local ok, value = pcall(self.command, self, safe, all, nil, reply)
        if ok then return value end
        reply = nil
        -- A server that was started again does not have it.
        if type(value) ~= "string" or not value:find("NOSCRIPT", 1, true) then error(value, 0) end
        script.digest = nil
    end
end

client.WORDS = 4

--- Whether a script can be sent without waiting for anything.
---@param script mpengine.remote.Script
function Client:may_begin(script)
    local conn = self.connections.commands
    return conn and not conn.lost and script.digest ~= nil
end

--- Sends it then: its reply, for evaluate, which must follow.
---@param script mpengine.remote.Script
---@param words (string|number)[]
---@return mpengine.remote.Reply
function Client:begin(script, words)
    return self.connections.commands:send(core.redis_command(addressed(self, script, words)))
end

--- The same with the arguments as such.
function Client:run(safe, script, ...) return self:evaluate(safe, script, { "", "", "", "", ... }) end

--- The result of run, also in a task that has been killed: what gives something back is done in any case, for a
--- bounded time, as a close of a variable is.
function Client:surely(...)
    local args, results = table.pack(...), nil
    do
        local _ <close> = setmetatable({}, { __close = function()
            results = table.pack(pcall(self.run, self, table.unpack(args, 1, args.n)))
        end })
    end
    if not results[1] then error(results[2], 0) end
    return results[2]
end

--- A number for a change that must not be made twice.
function Client:number()
    self.last_wait = self.last_wait + 1
    return tostring(self.last_wait)
end

--- The change with that number is over: it is not asked for again.
function Client:over(number) self.ended[#self.ended + 1] = number end

--- Some of the numbers that are over, to tell the server.
---@return string[]
function Client:take_over()
    local list = self.ended
    local n = math.min(#list, OVER)
    local taken = table.move(list, 1, n, 1, {})
    self.ended = table.move(list, n + 1, #list, 1, {})
    return taken
end

--- The server has not been told.
---@param taken string[]
function Client:untold(taken) table.move(taken, 1, #taken, #self.ended + 1, self.ended) end

--- The result of f, which gets the numbers that are over and tells the server.
---@param f fun(over: string): any
function Client:telling_over(f)
    local taken = self:take_over()
    local ok, value = pcall(f, table.concat(taken, " "))
    if ok then return value end
    self:untold(taken)
    error(value, 0)
end

--- The result of f, which tells with telling_over that a task leaves what it waited for with a token.
function Client:leaving(token, f)
    local value = self:telling_over(f)
    self:over(token)
    return value
end

--- Calls f, which gives something back by steps that may be repeated. When there is no server, or the task is killed
--- and has no more time for it, another task calls it until it is done: else the beats of this process would keep for
--- ever what it does not want.
---@param err any? an error for which there is no server, if that is known
function Client:eventually(f, err)
    if not is_away(err) then
        local ok
        ok, err = pcall(f)
        if ok then return end
    end
    if is_away(err) or core.is_over() then core.spawn(repeat_until_done, f) end
    error(err, 0)
end

function Client:lease_ms() return self.lease * 1000 // 1 | 0 end

--- Connects again after the beats did, though no task asks for anything: what this process has given up is to be told
--- to a server that does not know it (settle.lua).
local function watch(self)
    local fd = self.beat:again_fd()
    while core.wait_fd(fd, "r") do
        self.beat:forget_again()
        repeat_until_done(function() self:command(true, { "PING" }) end)
    end
end

--- From now on the server hears of this process, so that it keeps what it has acquired.
function Client:keep_alive()
    if self.beat then return end
    self.beat = connection.beat(self.address, { ca = self.ca, seconds = self.lease / 3 },
        { "EVAL", BEAT.text, 1, self.prefix, self.id, self:lease_ms() })
    core.spawn(watch, self)
end

-- ---- clients ---------------------------------------------------------------------------------

local made, owner = {}, core.pid() -- what makes a client -> the client

--- Children of one process have the same sequence of math.random.
local function random_number() return (string.unpack("<i8", core.random_bytes(8))) end

local function new(manager, address)
    return setmetatable({
        address = address, prefix = ("mp:{%s}:"):format(manager.namespace), ca = manager.ca,
        timeout = manager.timeout, connect_timeout = math.min(3, manager.timeout), lease = manager.lease,
        id = ("%d-%016x-%d"):format(core.pid(), random_number(), manager.lease * 1000 // 1),
        connections = {}, opening = {}, waits = {}, last_wait = 0, ended = {}, held = {}, owned = {}, permits = {},
        fetching = {}, used = {}, granted = {}, mail_kept = 0, mail_bytes = 0,
        mail_turn = turn.new(),
    }, Client)
end

--- The client of this process for a manager.
---@param manager mpengine.remote.Manager
---@return mpengine.remote.Client
function client.of(manager)
    if owner ~= core.pid() then made, owner = {}, core.pid() end
    local known = made[manager]
    if known then return known end
    local key = table.concat({ manager.url, manager.namespace, manager.ca or "", manager.key_file or "",
        manager.timeout, manager.lease }, "\0")
    if not made[key] then made[key] = new(manager, require("mpengine.remote.url").parse(manager.url)) end
    made[manager] = made[key]
    return made[key]
end

return client
