--- The condition of a remote manager: a lock, and a list of tasks that wait for a notification. A task that
--- is notified goes into the line of the lock, so it waits once and is woken once.
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local core = require "mpengine.core"
local lock = require "mpengine.remote.lock"
local object = require "mpengine.remote.object"
local settle = require "mpengine.remote.settle"
local sync = require "mpengine.sync"

-- After those of a lock, ARGV: name of the condition, client and token of the caller
local COMMON <const> = lock.SCRIPT .. [[
local C, entry = P .. 'cond:' .. ARGV[4], me .. ' ' .. ARGV[5]
]]

-- ARGV[6]: the fence of the caller's lock. It is released, and the task waits.
local WAIT = client.script(COMMON .. [[
local h = owner()
if call('LPOS', C, entry) or call('LPOS', Q, entry) then return {0, lease} end
if h[1] == me and h[2] == ARGV[5] then return {1, h[3], h[4]} end
if h[1] ~= me or h[3] ~= ARGV[6] then return {2} end
beat(me, lease, at)
join(C, entry)
call('HSET', L, 'released', h[3], 'died', '0')
give_next('0')
return {0, lease}
]])

-- A task that is nowhere was lost with the server: it waits for the lock alone.
local ASK = client.script(COMMON .. [[
local h = owner()
if h[1] == me and h[2] == ARGV[5] then return {1, h[3], h[4]} end
if not call('LPOS', C, entry) and not call('LPOS', Q, entry) then
    if not h[1] then return {1, grant(me, ARGV[5], '0'), '0'} end
    call('RPUSH', Q, entry)
end
return {0, lease}
]])

-- ARGV[6]: the fence of the caller's lock, which it has if it never began to wait, ARGV[7]: numbers that are over.
-- 1: it has the lock. 2: it had been notified, but has no lock. 0: it had not.
local LEAVE = client.script(COMMON .. [[
if leave(C, me, ARGV[5], ARGV[7]) then return {0} end
if call('LREM', Q, 1, entry) == 1 then return {2} end
local h = call('HMGET', L, 'owner', 'token', 'fence', 'died')
if h[1] == me and (h[2] == ARGV[5] or h[3] == ARGV[6]) then return {1, h[3], h[4]} end
return {2}
]])

-- ARGV[6]: the fence, ARGV[7]: how many. -1: the lock is not the caller's.
local NOTIFY = client.script(COMMON .. [[
local h = owner()
if h[1] ~= me or h[3] ~= ARGV[6] then return -1 end
for i = 1, tonumber(ARGV[7]) do
    local _, _, waiting = pop_waiting(C, at)
    if not waiting then return i - 1 end
    call('RPUSH', Q, waiting)
end
return tonumber(ARGV[7])
]])

-- ARGV[4]: name of the condition. The lock is settled for itself.
local SETTLEMENT = settle.new(lock.SCRIPT, "drop(P .. 'cond:' .. ARGV[4])",
    function(c, name) return { "", c.id, c:lease_ms(), name } end)

local Condition = object.class("Condition", "condition")
local methods = Condition.methods

local EVERY <const> = 512 -- of one script

-- ---- its lock --------------------------------------------------------------------------------

-- The parameter of a condition is its lock: "Lock:name" or "RLock:name".
local locks = setmetatable({}, { __mode = "k" }) -- handle of a condition -> handle of its lock

local function lock_of(self)
    local known = locks[self]
    if known then return known end
    local manager, name = object.manager_of(self), object.name(self)
    local kind, of = object.agree(manager, "Condition", name, nil, "RLock:condition " .. name):match "^(%a+):(.*)$"
    locks[self] = object.new(lock[kind], manager, of)
    return locks[self]
end

function methods:acquire(timeout)
    object.check(self, Condition, "acquire")
    check.timeout("Condition:acquire", 1, timeout)
    return lock_of(self):acquire(timeout)
end

function methods:release()
    object.check(self, Condition, "release")
    lock_of(self):release()
end

function methods:locked()
    object.check(self, Condition, "locked")
    return lock_of(self):locked()
end

--- Does the calling task have the lock?
function methods:is_mine()
    local c = object.check(self, Condition, "is_mine")
    return lock.holding(c, lock_of(self)) ~= nil
end

local function check_mine(self, call)
    local c = object.check(self, Condition, call)
    local of = lock_of(self)
    local held = lock.holding(c, of)
    if not held then check.misuse("Condition:" .. call, "condition_not_mine") end
    return c, of, held
end

-- ---- waiting ---------------------------------------------------------------------------------

local function granted(reply)
    if reply[1] == 1 then return lock.grant(reply[2], reply[3]) end
    return nil, reply[2] and reply[2] / 1000
end

--- Waits for the notification and the lock: state.grant, and whether it was notified.
local function wait(c, self, name, held, timeout, state)
    local begun = false
    c:uses(SETTLEMENT, object.name(self))
    local function run(script, token, ...)
        return c:run(true, script, name, c.id, c:lease_ms(), object.name(self), token, ...)
    end
    state.grant = c:obtain({
        ask = function(token)
            if begun then return granted(run(ASK, token)) end
            local reply = run(WAIT, token, held.fence)
            if reply[1] == 2 then error("Condition:wait: the lock is lost: its lease had ended", 0) end
            begun = true
            return granted(reply)
        end,
        given = function(mail) return lock.grant(mail.fence, mail.died) end,
        leave = function(token)
            local reply = c:leaving(token, function(over) return run(LEAVE, token, held.fence, over) end)
            state.notified = reply[1] ~= 0
            return (granted(reply))
        end,
        give_back = function(given) -- kept: the kill goes on with the lock held
            if state.is_over then lock.give_back(c, name, given) else state.grant = given end
        end,
    }, timeout)
end

--- Acquires the lock again, whatever happens to this task, and however long it takes.
local function take_back(c, name)
    local ended, ok, got = core.waitlist(), nil, nil
    core.spawn(function()
        ok, got = pcall(lock.acquire, c, name)
        ended:wake()
    end)
    while ok == nil do ended:wait_shielded() end
    if not ok then error(got, 0) end
    return got
end

--- Releases the lock, waits for a notification, and acquires the lock again: true, or nil and "timeout".
---@param timeout number? seconds
function methods:wait(timeout)
    check.timeout("Condition:wait", 1, timeout)
    local c, of, held = check_mine(self, "wait")
    local name = lock.held_name(of)
    local deadline = timeout and core.now() + timeout
    local state = setmetatable({}, { __close = function(state)
        state.is_over = true
        local grant = state.grant or take_back(c, name)
        lock.resume(c, of, held, grant.fence)
    end })
    lock.suspend(c, of)
    local _ <close> = state
    -- A timeout of 0 lets the others have the lock, too.
    wait(c, self, name, held, deadline and math.max(1e-3, deadline - core.now()), state)
    if state.grant or state.notified then return true end
    return nil, "timeout"
end

--- Wakes n (1) of the tasks that wait; the lock must be held.
---@param n integer?
function methods:notify(n)
    check.count("Condition:notify", 1, n, 1, "n")
    local c, of, held = check_mine(self, "notify")
    local left = n or 1
    repeat
        local count = math.min(left, EVERY)
        local woken = c:run(false, NOTIFY, lock.held_name(of), c.id, c:lease_ms(), object.name(self), "", held.fence,
            count)
        if woken < 0 then error("Condition:notify: the lock is lost: its lease had ended", 0) end
        left = left - count
    until left == 0 or woken < count
end

function methods:notify_all()
    check_mine(self, "notify_all")
    self:notify(math.maxinteger)
end

--- Makes a handle; the lock is a Lock or RLock of the same manager, without one an RLock of its own.
function Condition.open(manager, name, of)
    local given
    if of ~= nil then
        local kind = getmetatable(of)
        if kind ~= lock.Lock and kind ~= lock.RLock then
            check.fail("Manager:Condition", 2, "a Lock or RLock of the manager", of)
        end
        given = kind.kind .. ":" .. object.name(of)
    end
    object.agree(manager, "Condition", name, given, "RLock:condition " .. name)
    return object.new(Condition, manager, name)
end

sync.add_condition("Condition", Condition, methods)

return { Condition = Condition }
