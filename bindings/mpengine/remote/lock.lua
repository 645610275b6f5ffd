--- Lock and RLock of a remote manager.
---
--- A lock is a hash: its owner, the token of the acquire, the fence, the fence that was released last, and
--- those that were lost. Waiting tasks are in a list, "client token" each, and a release gives the lock to the first
--- whose client is alive. All is done in scripts, each a step of the server's. A script that is run again
--- with the same token finds what it had done.
local core = require "mpengine.core"
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local object = require "mpengine.remote.object"
local settle = require "mpengine.remote.settle"
local sync = require "mpengine.sync"
require "mpengine.remote.mail"

local lock = {}

--- Functions of all scripts that give locks; ARGV: name, client, lease.
lock.SCRIPT = [[
local name, me, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local L, Q = P .. 'lock:' .. name, P .. 'lockq:' .. name
local at = now()
-- The lock of a key of a cache goes when it is not used.
local is_short = name:sub(1, 6) == 'cache '
local function grant(client, token, died)
    if is_short then call('PERSIST', L) end
    local t = call('TIME')
    local last = tonumber(call('HGET', L, 'fence') or 0)
    local fence = string.format('%.0f', math.max(last + 1, t[1] * 1000000 + t[2]))
    call('HSET', L, 'owner', client, 'token', token, 'fence', fence, 'died', died)
    return fence
end
-- The last fences whose owners have lost the lock: to others that released it, or with their leases.
local function lose(fence)
    local lost = (call('HGET', L, 'lost') or '') .. ' ' .. fence
    call('HSET', L, 'lost', lost:sub(-1000):match(' .*'))
end
local function give_next(died)
    local client, token = pop_waiting(Q, at)
    if client then
        mail(client, 'w', token, 'fence', grant(client, token, died), 'died', died)
        return
    end
    call('HDEL', L, 'owner', 'token')
    if died == '1' then call('HSET', L, 'died', '1') end
    if is_short then call('PEXPIRE', L, 60000) end
end
local function owner()
    local h = call('HMGET', L, 'owner', 'token', 'fence', 'died')
    if h[1] and deadline(h[1]) <= at then
        lose(h[3])
        give_next('1')
        h = call('HMGET', L, 'owner', 'token', 'fence', 'died')
    end
    return h
end
]]

local ACQUIRE = client.script(lock.SCRIPT .. [[
local token = ARGV[4]
beat(me, lease, at)
local h = owner()
if not h[1] then
    local fence = grant(me, token, h[4] or '0')
    call('LREM', Q, 1, me .. ' ' .. token)
    return {1, fence, h[4] or '0'}
end
if h[1] == me and h[2] == token then return {1, h[3], h[4]} end
if ARGV[5] == '1' then join(Q, me .. ' ' .. token) end
return {0, deadline(h[1]) - at}
]])

local LEAVE = client.script(lock.SCRIPT .. [[
local token = ARGV[4]
if call('LREM', Q, 1, me .. ' ' .. token) == 1 then return {0} end
local h = call('HMGET', L, 'owner', 'token', 'fence', 'died')
if h[1] == me and h[2] == token then return {1, h[3], h[4]} end
return {0}
]])

-- ARGV[4]: the fence of the caller's own acquire, or ''.
local RELEASE = client.script(lock.SCRIPT .. [[
local fence = ARGV[4]
local h = call('HMGET', L, 'owner', 'token', 'fence', 'lost')
if fence ~= '' and (h[3] ~= fence or h[1] ~= me) then
    if not h[3] or tonumber(h[3]) < tonumber(fence) then return 'LOST' end -- with the server
    return ((h[4] or '') .. ' '):find(' ' .. fence .. ' ', 1, true) and 'LOST' or 'OK'
end
if not h[1] then return 'FREE' end
if deadline(h[1]) <= at then
    lose(h[3])
    give_next('1')
    return fence ~= '' and 'LOST' or 'FREE'
end
if fence == '' then lose(h[3]) end
call('HSET', L, 'released', h[3], 'died', '0')
give_next('0')
beat(me, lease, at)
return 'OK'
]])

local LOCKED = client.script(lock.SCRIPT .. [[
return owner()[1] and 1 or 0
]])

-- ARGV[4]: the fence of what this process holds, or ''. A fence that is greater than the lock's was given later than
-- all that the server knows, so this process owns it. A smaller one is lost: the lock went to another process.
lock.SETTLEMENT = settle.new(lock.SCRIPT, [[
drop(Q)
local fence, h = ARGV[4], call('HMGET', L, 'owner', 'token', 'fence')
if fence ~= '' and tonumber(h[3] or 0) < tonumber(fence) then
    if is_short then call('PERSIST', L) end
    call('HSET', L, 'owner', me, 'token', '', 'fence', fence, 'died', '0')
    return 1
end
if fence ~= '' and h[3] ~= fence then lose(fence) end
if h[1] == me and h[3] ~= fence and is_stale(me .. ' ' .. h[2]) then
    call('HSET', L, 'released', h[3], 'died', '0')
    give_next('0')
end
return 1
]], function(c, name) return { name, c.id, c:lease_ms(), c.granted[name] or "" } end,
    { is_held = function(c, name) return c.granted[name] ~= nil end })

-- ---- Lock ------------------------------------------------------------------------------------

local Lock = object.class("Lock", "lock")

--- A grant, from the texts of the server.
function lock.grant(fence, died) return { fence = math.tointeger(tonumber(fence)), died = died == "1" } end

--- Gives back what was given to a token, to be called again when there is no server.
function lock.give_back(c, name, given) c:run(true, RELEASE, name, c.id, c:lease_ms(), given.fence) end

local function source(c, name)
    c:uses(lock.SETTLEMENT, name)
    local function granted(reply)
        if reply[1] == 1 then return lock.grant(reply[2], reply[3]) end
        return nil, reply[2] and math.max(0.01, reply[2] / 1000 + 0.005)
    end
    return {
        ask = function(token, join)
            return granted(c:run(true, ACQUIRE, name, c.id, c:lease_ms(), token, join and 1 or 0))
        end,
        given = function(mail) return lock.grant(mail.fence, mail.died) end,
        leave = function(token) return (granted(c:run(true, LEAVE, name, c.id, c:lease_ms(), token))) end,
        give_back = function(given) lock.give_back(c, name, given) end,
    }
end

lock.source = source

--- Acquires: the grant, or nil.
local function acquire(c, name, timeout)
    c:keep_alive()
    local got = c:obtain(source(c, name), timeout)
    if got then c.granted[name] = got.fence end
    return got
end

lock.acquire = acquire

local function release(c, call, name, fence)
    if c.granted[name] == fence then c.granted[name] = nil end
    local said
    local function give() said = c:surely(fence ~= nil, RELEASE, name, c.id, c:lease_ms(), fence or "") end
    if fence then c:eventually(give) else give() end
    if said == "FREE" then check.misuse(call, "lock_not_held") end
    if said == "LOST" then error(call .. ": the lock is lost: its lease had ended", 0) end
end

lock.release = release

--- Acquires the lock: true, or true and "owner_died" when its last owner is gone, or nil and "timeout".
---@param timeout number? seconds
function Lock.methods:acquire(timeout)
    local c = object.check(self, Lock, "acquire")
    check.timeout("Lock:acquire", 1, timeout)
    local got = acquire(c, object.name(self), timeout)
    if not got then return nil, "timeout" end
    c.held[object.name(self)] = got.fence
    if got.died then return true, "owner_died" end
    return true
end

--- Releases it, whichever process has it. An error when it is free, and when this process had it and its lease has
--- ended.
function Lock.methods:release()
    local c = object.check(self, Lock, "release")
    local fence = c.held[object.name(self)]
    c.held[object.name(self)] = nil
    release(c, "Lock:release", object.name(self), fence)
end

function Lock.methods:locked()
    local c = object.check(self, Lock, "locked")
    return c:run(true, LOCKED, object.name(self), c.id, c:lease_ms()) == 1
end

--- The number of this process's last acquire: each is greater than all before it.
function Lock.fields:fence()
    return object.check(self, Lock, "fence").held[object.name(self)]
end

-- ---- RLock -----------------------------------------------------------------------------------

local RLock = object.class("RLock", "lock")

local task_of = core.current

--- The name of its lock in scripts, which is none that Lock has.
local function inner(self) return "r:" .. object.name(self) end

function RLock.methods:acquire(timeout)
    local c = object.check(self, RLock, "acquire")
    check.timeout("RLock:acquire", 1, timeout)
    local mine = c.owned[object.name(self)]
    if mine and mine.task == task_of() then
        mine.depth = mine.depth + 1
        return true
    end
    local got = acquire(c, inner(self), timeout)
    if not got then return nil, "timeout" end
    c.owned[object.name(self)] = { task = task_of(), depth = 1, fence = got.fence }
    if got.died then return true, "owner_died" end
    return true
end

function RLock.methods:release()
    local c = object.check(self, RLock, "release")
    local mine = c.owned[object.name(self)]
    if not mine or mine.task ~= task_of() then check.misuse("RLock:release", "lock_not_mine") end
    mine.depth = mine.depth - 1
    if mine.depth > 0 then return end
    c.owned[object.name(self)] = nil
    release(c, "RLock:release", inner(self), mine.fence)
end

function RLock.methods:locked()
    local c = object.check(self, RLock, "locked")
    return c:run(true, LOCKED, inner(self), c.id, c:lease_ms()) == 1
end

function RLock.fields:fence()
    local mine = object.check(self, RLock, "fence").owned[object.name(self)]
    return mine and mine.fence
end

--- The name of a lock in scripts, and the fence of this process's acquire; nil: it is no lock.
function lock.held_name(self)
    local class = getmetatable(self)
    if class ~= Lock and class ~= RLock then return nil end
    return class == Lock and object.name(self) or inner(self), self.fence
end

-- ---- for conditions --------------------------------------------------------------------------

--- What the calling task holds of a lock, with its fence; nil: nothing.
function lock.holding(c, self)
    local name = object.name(self)
    if getmetatable(self) == Lock then return c.held[name] and { fence = c.held[name] } end
    local mine = c.owned[name]
    return mine and mine.task == task_of() and mine or nil
end

--- The task is about to release it for a time, whatever its level.
function lock.suspend(c, self)
    local name = object.name(self)
    c.granted[lock.held_name(self)] = nil
    if getmetatable(self) == Lock then c.held[name] = nil else c.owned[name] = nil end
end

--- The task has it again, with another fence.
function lock.resume(c, self, held, fence)
    local name = object.name(self)
    if getmetatable(self) == Lock then
        c.held[name] = fence
    else
        c.owned[name] = { task = held.task, depth = held.depth, fence = fence }
    end
    c.granted[lock.held_name(self)] = fence
end

for _, class in ipairs { Lock, RLock } do sync.add(class.kind, class, class.methods) end

lock.Lock, lock.RLock = Lock, RLock

return lock
