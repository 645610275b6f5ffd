--- co.Lock, RLock, Semaphore, BoundedSemaphore and Condition. Release hands the lock or permit to
--- the first waiter (FIFO), which owns it from then on. So no later caller overtakes a waiter, and
--- nothing is lost when the waiter is killed before it runs again.
local core = require "mpengine.core"
local check = require "mpengine.check"
local class = require "mpengine.co.class"
local shared = require "mpengine.sync"

local getmetatable = debug.getmetatable -- the fast one

local locks = {}

-- Those of C that the frequent methods call anyway check the object, too.
local waitlist, wake, wake_one = core.waitlist, core.waitlist_wake, core.wake_one
local check_cancelled, current_id, look = core.check_cancelled, core.current_id, core.look

local function new(meta, self, name)
    self.name = name
    self.waiting = waitlist(setmetatable(self, meta), true)
    return self
end

local function tell(watchers) watchers:wake() end

-- ---- Lock ----

-- held: the number of the task that took it, or got it by a release; false: it is free.
---@class mp.co.Lock
local Lock, lock_methods = class.new("Lock", function(self) return self.held and "held" or "free" end)

--- true, or nil, "timeout"
---@param timeout? number
function lock_methods:acquire(timeout)
    local turn_is_over, me = check_cancelled(self, Lock, "co.Lock:acquire")
    if timeout ~= nil then check.timeout("co.Lock:acquire", 1, timeout) end
    if not self.held then
        self.held = me
        if turn_is_over then core.let_others() end
        return true
    end
    return self.waiting:wait(timeout)
end

--- Any task may release it. Raises when it is free.
function lock_methods:release()
    local heir = wake_one(self, Lock, "co.Lock:release")
    if heir ~= 0 then
        self.held = heir
        return
    end
    if not self.held then check.misuse("co.Lock:release", "lock_not_held") end
    self.held = false
    if self.watchers then tell(self.watchers) end
end

function lock_methods:locked()
    look(self, Lock, "co.Lock:locked")
    return self.held ~= false
end

-- For a Condition: whether this task holds the lock; release it; reacquire it whatever happens.
function lock_methods:is_mine()
    return self.held ~= false
end

function lock_methods:give_up()
    self:release()
    return 1
end

function lock_methods:take_back()
    if self.held then
        self.waiting:wait_shielded()
    else
        self.held = current_id(self, Lock, "co.Lock:acquire")
    end
end

Lock.misuse = "lock_not_held" -- by a release through a Condition

function Lock.__ready(self) return not self.held end

---@param opts? { name?: string }
---@return mp.co.Lock
function locks.Lock(opts)
    return new(Lock, { held = false }, class.name_in("co.Lock", opts))
end

-- ---- RLock ----

---@class mp.co.RLock
local RLock, rlock_methods = class.new("RLock", function(self)
    if self.levels == 0 then return "free" end
    return ("held %d time%s by task %d"):format(self.levels, self.levels == 1 and "" or "s", self.owner)
end)

-- After a hand-over the owner is unknown until the waiter runs: levels is -1 then.
local HANDED_OVER <const> = -1

function rlock_methods:acquire(timeout)
    local me, turn_is_over = current_id(self, RLock, "co.RLock:acquire"), false
    if timeout ~= nil then check.timeout("co.RLock:acquire", 1, timeout) end
    if self.levels == 0 then
        turn_is_over = check_cancelled()
    elseif self.levels > 0 and self.owner == me then
        self.levels = self.levels + 1
        return true
    else
        local ok, why = self.waiting:wait(timeout)
        if not ok then return nil, why end
    end
    self.owner, self.levels = me, 1
    if turn_is_over then core.let_others() end
    return true
end

local function hand_over(self)
    self.owner = nil
    if wake(self.waiting, 1) == 1 then
        self.levels = HANDED_OVER
    else
        self.levels = 0
        if self.watchers then tell(self.watchers) end
    end
end

function rlock_methods:is_mine()
    return self.levels > 0 and self.owner == current_id(self, RLock, "co.RLock:is_mine")
end

--- Only its owner may release it.
function rlock_methods:release()
    local me = current_id(self, RLock, "co.RLock:release")
    if self.levels <= 0 or self.owner ~= me then check.misuse("co.RLock:release", "lock_not_mine") end
    if self.levels > 1 then self.levels = self.levels - 1 else hand_over(self) end
end

function rlock_methods:locked()
    look(self, RLock, "co.RLock:locked")
    return self.levels ~= 0
end

function rlock_methods:give_up()
    local levels = self.levels
    hand_over(self)
    return levels
end

function rlock_methods:take_back(levels)
    if self.levels ~= 0 then self.waiting:wait_shielded() end
    self.owner, self.levels = current_id(self, RLock, "co.RLock:acquire"), levels
end

RLock.misuse = "lock_not_mine"

function RLock.__ready(self) return self.levels == 0 or self:is_mine() end

---@param opts? { name?: string }
---@return mp.co.RLock
function locks.RLock(opts)
    return new(RLock, { levels = 0 }, class.name_in("co.RLock", opts))
end

-- ---- Semaphore ----

--- The metatable of Semaphore or BoundedSemaphore.
local function semaphore_class(name)
    local meta, methods = class.new(name, function(self) return ("value %d"):format(self.permits) end)
    local call, bounded = "co." .. name, name == "BoundedSemaphore"
    local acquire_call, release_call = call .. ":acquire", call .. ":release"
    local get_value_call, locked_call = call .. ":get_value", call .. ":locked"

    function methods:acquire(timeout)
        local turn_is_over = check_cancelled(self, meta, acquire_call)
        if timeout ~= nil then check.timeout(acquire_call, 1, timeout) end
        if self.permits > 0 then
            self.permits = self.permits - 1
            if turn_is_over then core.let_others() end
            return true
        end
        return self.waiting:wait(timeout)
    end

    function methods:release()
        if bounded and getmetatable(self) == meta and self.permits >= self.bound then
            check.misuse(release_call, "all_permits")
        end
        if wake_one(self, meta, release_call) == 0 then
            self.permits = self.permits + 1
            if self.watchers then tell(self.watchers) end
        end
    end

    function methods:get_value()
        look(self, meta, get_value_call)
        return self.permits
    end

    function methods:locked()
        look(self, meta, locked_call)
        return self.permits == 0
    end

    function meta.__ready(self) return self.permits > 0 end

    shared.add(call, meta, methods)
    return meta
end

local Semaphore, BoundedSemaphore = semaphore_class("Semaphore"), semaphore_class("BoundedSemaphore")

---@class mp.co.Semaphore

local VALUE <const> = { "value" }

---@param value? integer | { value?: integer, name?: string }  1 when absent
---@return mp.co.Semaphore
function locks.Semaphore(value)
    local n, name = class.fields("co.Semaphore", VALUE, value)
    check.count("co.Semaphore", 1, n, 0, "number of permits", 0x7fffffff)
    return new(Semaphore, { permits = n or 1 }, name)
end

---@param value? integer | { value?: integer, name?: string }
---@return mp.co.Semaphore
function locks.BoundedSemaphore(value)
    local n, name = class.fields("co.BoundedSemaphore", VALUE, value)
    check.count("co.BoundedSemaphore", 1, n, 0, "number of permits", 0x7fffffff)
    return new(BoundedSemaphore, { permits = n or 1, bound = n or 1 }, name)
end

-- ---- Condition ----

---@class mp.co.Condition
local Condition, condition_methods = class.new("Condition", function(self)
    return getmetatable(self.lock).__ready(self.lock) and "lock free" or "lock held"
end)

function condition_methods:is_mine()
    return self.lock:is_mine()
end

local function check_mine(self, call)
    if not self:is_mine() then check.misuse(call, "condition_not_mine") end
end

function condition_methods:acquire(timeout)
    if getmetatable(self) ~= Condition then check.bad_self("co.Condition:acquire", "mp.co.Condition", self) end
    check.timeout("co.Condition:acquire", 1, timeout)
    return self.lock:acquire(timeout)
end

function condition_methods:release()
    if getmetatable(self) ~= Condition then check.bad_self("co.Condition:release", "mp.co.Condition", self) end
    if not self:is_mine() then check.misuse("co.Condition:release", getmetatable(self.lock).misuse) end
    self.lock:release()
end

function condition_methods:locked()
    if getmetatable(self) ~= Condition then check.bad_self("co.Condition:locked", "mp.co.Condition", self) end
    return self.lock:locked()
end

function condition_methods:get_lock()
    if getmetatable(self) ~= Condition then check.bad_self("co.Condition:get_lock", "mp.co.Condition", self) end
    return self.lock
end

--- Releases the lock, waits to be notified, and reacquires the lock, whatever ends the wait.
---@param timeout? number
function condition_methods:wait(timeout)
    if getmetatable(self) ~= Condition then check.bad_self("co.Condition:wait", "mp.co.Condition", self) end
    if timeout ~= nil then check.timeout("co.Condition:wait", 1, timeout) end
    check_mine(self, "co.Condition:wait")
    check_cancelled()
    local levels = self.lock:give_up()
    local good, ok, why = pcall(self.waiting.wait, self.waiting, timeout)
    self.lock:take_back(levels)
    if not good then error(ok, 0) end
    return ok, why
end

--- Wakes n waiters, 1 when absent.
---@param n? integer
function condition_methods:notify(n)
    if getmetatable(self) ~= Condition then check.bad_self("co.Condition:notify", "mp.co.Condition", self) end
    check.count("co.Condition:notify", 1, n, 0, "number of waiters")
    check_mine(self, "co.Condition:notify")
    self.waiting:wake(n or 1)
end

function condition_methods:notify_all()
    if getmetatable(self) ~= Condition then check.bad_self("co.Condition:notify_all", "mp.co.Condition", self) end
    check_mine(self, "co.Condition:notify_all")
    self.waiting:wake()
end

local LOCK <const> = { "lock" }

---@param lock? mp.co.Lock | mp.co.RLock | { lock?: mp.co.Lock | mp.co.RLock, name?: string }  an RLock of its own
---  when absent
---@return mp.co.Condition
function locks.Condition(lock)
    local name
    lock, name = class.fields("co.Condition", LOCK, lock)
    local meta = getmetatable(lock)
    if lock ~= nil and meta ~= Lock and meta ~= RLock then
        check.fail("co.Condition", 1, "mp.co.Lock or mp.co.RLock", lock)
    end
    return new(Condition, { lock = lock or locks.RLock(name and { name = name }) }, name)
end

shared.add("co.Lock", Lock, lock_methods)
shared.add("co.RLock", RLock, rlock_methods)
shared.add_condition("co.Condition", Condition, condition_methods)

return locks
