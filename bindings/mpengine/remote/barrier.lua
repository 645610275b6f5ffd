--- The barrier of a remote manager: how many parties there are, and the tasks that wait. The last task that
--- arrives runs the action, if there is one, and lets the others go. A party that times out, is killed or is
--- not heard of breaks it.
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local object = require "mpengine.remote.object"
local settle = require "mpengine.remote.settle"
require "mpengine.remote.mail"

-- ARGV: name, client, lease, token. D keeps what each token was told, for a task whose message is lost, until the
-- task says that it knows.
local COMMON <const> = [[
local name, me, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local B, Q, D = P .. 'bar:' .. name, P .. 'barq:' .. name, P .. 'bard:' .. name
local entry, at = me .. ' ' .. ARGV[4], now()
local function tell(entry, index)
    local client, token = entry:match('^(%S+) (%S+)$')
    call('HSET', D, entry, index)
    call('PEXPIRE', D, 600000)
    mail(client, 'w', token, 'index', index)
end
local function break_it()
    call('HSET', B, 'broken', 1)
    call('HDEL', B, 'last')
    while true do
        local waiting = call('LPOP', Q)
        if not waiting then return end
        tell(waiting, -1)
    end
end
local function look()
    for _, waiting in ipairs(call('LRANGE', Q, 0, -1)) do
        if deadline(waiting:match('^%S+')) <= at then return break_it() end
    end
    local last = call('HGET', B, 'last')
    if last and deadline(last:match('^%S+')) <= at then break_it() end
end
local function open()
    call('HDEL', B, 'last')
    for index = 1, 1000000 do
        local waiting = call('LPOP', Q)
        if not waiting then return end
        tell(waiting, index)
    end
end
]]

-- ARGV[5]: the parties, ARGV[6]: is there an action? {1, index}, {2}: run the action, {0}: wait
local ARRIVE = client.script(COMMON .. [[
beat(me, lease, at)
look()
local told = call('HGET', D, entry)
if told then return {1, tonumber(told)} end
if call('HGET', B, 'last') == entry then return {2} end
if call('LPOS', Q, entry) then return {0} end
if call('HEXISTS', B, 'broken') == 1 or call('HEXISTS', B, 'last') == 1 then return {1, -1} end
call('RPUSH', Q, entry)
if call('LLEN', Q) < tonumber(ARGV[5]) then return {0} end
if ARGV[6] == '1' then
    call('HSET', B, 'last', entry)
    return {2}
end
open()
return {1, tonumber(call('HGET', D, entry))}
]])

local OPEN = client.script(COMMON .. [[
if call('HGET', B, 'last') == entry then open() end
return tonumber(call('HGET', D, entry) or -1)
]])

local LEAVE = client.script(COMMON .. [[
local told = call('HGET', D, entry)
if told then return tonumber(told) end
if call('LPOS', Q, entry) then break_it() end
return -1
]])

local ABORT = client.script(COMMON .. "break_it()")

local RESET = client.script(COMMON .. [[
break_it()
call('DEL', B)
]])

local STATE = client.script(COMMON .. [[
look()
return {call('LLEN', Q), call('HEXISTS', B, 'broken')}
]])

-- The last party had let the others go. Another party waits no more.
local SETTLEMENT = settle.new(COMMON, [[
drop(Q)
local last = call('HGET', B, 'last')
if last and is_stale(last) then
    if has_left(last) then break_it() else open() end
end
return 1
]], function(c, name) return { name, c.id, c:lease_ms() } end)

local Barrier = object.class("Barrier", "barrier")
local methods, fields = Barrier.methods, Barrier.fields

local known = setmetatable({}, { __mode = "k" }) -- handle -> its parameters

local function parameters(self)
    if not known[self] then
        local text = object.agree(object.manager_of(self), "Barrier", object.name(self), nil, "parties=1")
        known[self] = { parties = text:match "parties=(%d+)", timeout = tonumber(text:match "timeout=(%S+)"),
            action = text:match "action=(%S+)" }
    end
    return known[self]
end

local function run(c, self, safe, script, token, ...)
    return c:run(safe, script, object.name(self), c.id, c:lease_ms(), token or "", ...)
end

--- Runs the action and lets the others go: this task's index.
local function act(c, self, token, action)
    local ok, err = pcall(require("mpengine.remote.functions").find(action))
    if not ok then
        run(c, self, true, ABORT)
        error(err, 0)
    end
    return run(c, self, true, OPEN, token)
end

--- Waits until all parties are there: this task's number, 1 to parties, or nil and "broken".
---@param timeout number? seconds
function methods:wait(timeout)
    local c = object.check(self, Barrier, "wait")
    check.timeout("Barrier:wait", 1, timeout)
    local p, token = parameters(self), nil
    local function forget(_, of) c:tell { "HDEL", c.prefix .. "bard:" .. object.name(self), c.id .. " " .. of } end
    c:uses(SETTLEMENT, object.name(self))
    local index = c:obtain({
        ask = function(of)
            token = of
            local reply = run(c, self, true, ARRIVE, of, p.parties, p.action and 1 or 0)
            if reply[1] == 2 then return act(c, self, of, p.action) end
            if reply[1] == 1 then return reply[2] end
            return nil, c.lease / 3
        end,
        given = function(mail) return math.tointeger(tonumber(mail.index)) end,
        leave = function(of) return run(c, self, true, LEAVE, of) end,
        give_back = forget,
    }, timeout or p.timeout)
    -- A timeout of 0 has asked once, and leaves.
    if index == nil then
        self:abort()
        return nil, "broken"
    end
    if token then forget(nil, token) end
    if index < 0 then return nil, "broken" end
    return index
end

--- Breaks it: the tasks that wait get nil and "broken", until it is reset.
function methods:abort()
    local c = object.check(self, Barrier, "abort")
    run(c, self, true, ABORT)
end

--- Makes it as new; tasks that wait get nil and "broken".
function methods:reset()
    local c = object.check(self, Barrier, "reset")
    run(c, self, true, RESET)
end

function fields:parties() return math.tointeger(tonumber(parameters(self).parties)) end

function fields:n_waiting()
    local c = object.check(self, Barrier, "n_waiting")
    return run(c, self, true, STATE)[1]
end

function fields:broken()
    local c = object.check(self, Barrier, "broken")
    return run(c, self, true, STATE)[2] == 1
end

--- Makes a handle. The action goes by its name: a function of a module, or "module.function".
function Barrier.open(manager, name, parties, action, timeout)
    local given
    if parties ~= nil or action ~= nil or timeout ~= nil then
        if math.type(parties) ~= "integer" or parties < 1 or parties > 65535 then
            check.wrong("Manager:Barrier", 2, "number of parties must be an integer from 1 to 65535, got "
                .. (type(parties) == "number" and parties or check.kind(parties)))
        end
        check.timeout("Manager:Barrier", 4, timeout)
        given = ("parties=%d"):format(parties)
        if action ~= nil then
            given = given .. " action=" .. require("mpengine.remote.functions").name("Manager:Barrier", 3, action)
        end
        if timeout then given = ("%s timeout=%.17g"):format(given, timeout) end
    end
    local text = object.agree(manager, "Barrier", name, given, "")
    if text == "" then error(("Manager:Barrier: '%s' is new: its number of parties is expected"):format(name)) end
    return object.new(Barrier, manager, name)
end

return { Barrier = Barrier }
