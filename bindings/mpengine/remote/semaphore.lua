--- Semaphore and BoundedSemaphore of a remote manager: how many permits are free, the permits that are
--- held, by "client token", and the tasks that wait. The permits of a process that is not heard of are
--- free again.
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local object = require "mpengine.remote.object"
local settle = require "mpengine.remote.settle"
local sync = require "mpengine.sync"
require "mpengine.remote.mail"

-- ARGV: kind, name, client, lease
local COMMON <const> = [[
local kind, name, me, lease = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local S, H, Q = P .. 'sem:' .. kind .. name, P .. 'semh:' .. kind .. name, P .. 'semq:' .. kind .. name
local at = now()
if call('EXISTS', S) == 0 then call('SET', S, call('HGET', P .. 'parameters', kind .. ':' .. name) or '1') end
local function free() return tonumber(call('GET', S)) end
local function sweep()
    local soonest = at + lease
    for _, entry in ipairs(call('HKEYS', H)) do
        local till = deadline(entry:match('^%S+'))
        if till <= at then
            call('HDEL', H, entry)
            call('INCR', S)
        elseif till < soonest then
            soonest = till
        end
    end
    return soonest
end
local function give()
    while free() > 0 do
        local client, token, entry = pop_waiting(Q, at)
        if not client then return end
        call('HSET', H, entry, 1)
        call('DECR', S)
        mail(client, 'w', token, 'ok', 1)
    end
end
]]

local ACQUIRE = client.script(COMMON .. [[
local entry = me .. ' ' .. ARGV[5]
beat(me, lease, at)
local soonest = at + lease
if free() == 0 then soonest = sweep() end
give()
if call('HEXISTS', H, entry) == 1 then return {1} end
if free() > 0 then
    call('LREM', Q, 1, entry)
    call('HSET', H, entry, 1)
    call('DECR', S)
    return {1}
end
if ARGV[6] == '1' then join(Q, entry) end
return {0, soonest - at}
]])

local LEAVE = client.script(COMMON .. [[
local entry = me .. ' ' .. ARGV[5]
call('LREM', Q, 1, entry)
return call('HEXISTS', H, entry)
]])

-- ARGV[5]: the token of the caller's own permit, or ''. A permit that is no longer there was released by this script
-- before, or is lost. Another process's permit is released when it has none.
local RELEASE = client.script(COMMON .. [[
local entry = me .. ' ' .. ARGV[5]
if call('HDEL', H, entry) == 0 then
    if ARGV[5] ~= '' then return 1 end
    local other = call('HKEYS', H)[1]
    if other then call('HDEL', H, other) elseif kind == 'BoundedSemaphore' then return 0 end
end
call('INCR', S)
give()
return 1
]])

local VALUE = client.script(COMMON .. [[
sweep()
give()
return free()
]])

-- Permits that were given back are free again. One that the server has forgotten may be given to another task too.
local function settlement(kind)
    local function held(c, name) return c.permits[kind .. name] or {} end
    return settle.new(COMMON, [[
drop(Q)
for _, entry in ipairs(call('HKEYS', H)) do
    if is_stale(entry) then
        call('HDEL', H, entry)
        call('INCR', S)
    end
end
give()
return 1
]], function(c, name) return { kind, name, c.id, c:lease_ms() } end,
        { tokens = held, is_held = function(c, name) return #held(c, name) > 0 end })
end

local function permits(c, class, name)
    local key = class.kind .. name
    c.permits[key] = c.permits[key] or {}
    return c.permits[key]
end

local function source(c, class, name)
    local function given(reply, token)
        if reply[1] == 1 then return token end
        return nil, math.max(0.01, reply[2] / 1000 + 0.005)
    end
    local function run(safe, script, ...)
        return c:run(safe, script, class.kind, name, c.id, c:lease_ms(), ...)
    end
    return {
        ask = function(token, join) return given(run(true, ACQUIRE, token, join and 1 or 0), token) end,
        given = function(mail) return mail.w end,
        leave = function(token) if run(true, LEAVE, token) == 1 then return token end end,
        give_back = function(token) run(true, RELEASE, token) end,
    }
end

local function define(kind)
    local class = object.class(kind, "semaphore")
    local methods, SETTLEMENT = class.methods, settlement(kind)

    --- Takes a permit: true, or nil and "timeout".
    ---@param timeout number? seconds
    function methods:acquire(timeout)
        local c = object.check(self, class, "acquire")
        check.timeout(kind .. ":acquire", 1, timeout)
        local name = object.name(self)
        c:keep_alive()
        c:uses(SETTLEMENT, name)
        local token = c:obtain(source(c, class, name), timeout)
        if not token then return nil, "timeout" end
        table.insert(permits(c, class, name), token)
        return true
    end

    --- Gives a permit back. Any process may; a BoundedSemaphore that has all its permits refuses.
    function methods:release()
        local c = object.check(self, class, "release")
        local name = object.name(self)
        local token = table.remove(permits(c, class, name)) or ""
        local said
        local function give()
            said = c:surely(token ~= "", RELEASE, kind, name, c.id, c:lease_ms(), token)
        end
        if token ~= "" then c:eventually(give) else give() end
        if said == 0 then
            check.misuse(kind .. ":release", "all_permits")
        end
    end

    --- How many permits are free.
    function methods:get_value()
        local c = object.check(self, class, "get_value")
        return c:run(true, VALUE, kind, object.name(self), c.id, c:lease_ms())
    end

    function methods:locked() return self:get_value() == 0 end

    function class.open(manager, name, value)
        check.count("Manager:" .. kind, 2, value, 0, "value")
        object.agree(manager, kind, name, value and tostring(value), "1")
        return object.new(class, manager, name)
    end

    sync.add(kind, class, methods)
    return class
end

return { Semaphore = define "Semaphore", BoundedSemaphore = define "BoundedSemaphore" }
