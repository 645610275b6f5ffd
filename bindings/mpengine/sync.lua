--- Guards and with() for everything that has acquire and release; Condition's wait_for,
--- the same for those of mp.co; Barrier's action and default timeout.
local core = require "mpengine.core"
local check = require "mpengine.check"
local errors = require "mpengine.errors"

local sync = {}
local new_barrier = core.new_barrier

local Guard = { __name = "mp.guard" }
Guard.__index = Guard

--- Releases now rather than at the end of the scope; harmless when released already.
function Guard:release()
    local held = self.held
    self.held = nil
    if held then held:release() end
end

Guard.__close = Guard.release

--- lock:guard([timeout]) -> guard[, "owner_died"] | nil, "timeout": held until the guard is closed.
local function guard(self, timeout)
    check.timeout("guard", 1, timeout)
    local ok, why = self:acquire(timeout)
    if not ok then return nil, why end
    return setmetatable({ held = self }, Guard), why
end

--- lock:with(f, ...) -> the results of f, called while the lock is held.
local function with(self, f, ...)
    check.type("with", 1, f, "function")
    local _ <close> = guard(self)
    return f(...)
end

for _, name in ipairs { "Lock", "RLock", "Semaphore", "BoundedSemaphore" } do
    local methods = core[name].methods
    methods.guard, methods.with = guard, with
end

local Condition = core.Condition.methods
Condition.guard, Condition.with = guard, with

--- c:wait_for(predicate [, timeout]) -> the predicate's value | nil, "timeout"
function Condition:wait_for(predicate, timeout)
    check.type("wait_for", 1, predicate, "function")
    check.timeout("wait_for", 2, timeout)
    if not self:is_mine() then error("wait_for: the condition's lock is not held by this task", 2) end
    local deadline = timeout and core.now() + timeout
    local value = predicate()
    while not value do
        local left = deadline and deadline - core.now()
        if left and left <= 0 then return nil, "timeout" end
        self:wait(left)
        value = predicate()
    end
    return value
end

sync.guard, sync.with, sync.wait_for = guard, with, Condition.wait_for -- for those of mp.co

-- A barrier's action and default timeout belong to the object as its maker described it: they
-- travel with it, since any process may be the last to arrive.
local Barrier = core.Barrier.methods
local settings = setmetatable({}, { __mode = "k" })

local function settings_of(self)
    local s = settings[self]
    if not s then
        local bytes = self:settings()
        s = bytes and core.decode_args(bytes) or {}
        settings[self] = s
    end
    return s
end

--- b:wait([timeout]) -> 1..parties | nil, "broken"
function Barrier:wait(timeout)
    check.timeout("wait", 1, timeout)
    local s = settings_of(self)
    local index, generation = self:meet(timeout or s.timeout)
    if not index then return nil, "broken" end
    if not generation then return index end
    if s.action then
        local ok, err = pcall(s.action)
        if not ok then
            self:abort()
            error(err, 0)
        end
    end
    local ok, why = self:open(generation)
    if not ok then return nil, why end
    return index
end

local meta = core.Barrier
local methods = meta.__index
function meta.__index(self, key)
    local method = methods[key]
    if method then return method end
    if key == "parties" then return (self:state()) end
    if key == "n_waiting" or key == "broken" then core.look() end
    if key == "n_waiting" then return (select(2, self:state())) end
    if key == "broken" then return (select(3, self:state())) end
end

function sync.Barrier(parties, action, timeout)
    if action ~= nil and type(action) ~= "function" then check.fail("Barrier", 2, "action: a function", action) end
    check.timeout("Barrier", 3, timeout)
    if math.type(parties) ~= "integer" or parties < 1 or parties > 65535 then
        error(("bad argument #1 to 'Barrier' (number of parties must be an integer from 1 to 65535, got %s)")
            :format(tostring(parties)), 2)
    end
    local s = { action = action, timeout = timeout }
    local bytes = next(s) and errors.at(3, core.encode_value, "Barrier", "settings", s)
    local b = new_barrier(parties, bytes)
    settings[b] = s
    return b
end

return sync
