--- Guards and with() for every object with acquire and release; Condition's wait_for, also for
--- those of mp.co; Barrier's action and default timeout.
local core = require "mpengine.core"
local check = require "mpengine.check"
local errors = require "mpengine.errors"

local sync = {}
local new_barrier = core.makers.Barrier

local Guard = { __name = "mp.guard" }
Guard.__index = Guard

--- Releases now rather than at the end of the scope; harmless when released already.
function Guard:release()
    local held = self.held
    self.held = nil
    if held then held:release() end
end

Guard.__close = Guard.release

--- Adds the methods guard and with to a type; call is its public name.
local function add(call, meta, methods)
    local function check_self(self, name)
        if getmetatable(self) ~= meta then check.bad_self(call .. name, meta.__name, self) end
    end

    --- lock:guard([timeout]) -> guard[, "owner_died"] | nil, "timeout": held until the guard is closed.
    function methods:guard(timeout)
        check_self(self, ":guard")
        check.timeout(call .. ":guard", 1, timeout)
        local ok, why = self:acquire(timeout)
        if not ok then return nil, why end
        return setmetatable({ held = self }, Guard), why
    end

    --- lock:with(f, ...) -> the results of f, called while the lock is held.
    function methods:with(f, ...)
        check_self(self, ":with")
        check.callable(call .. ":with", 1, f)
        local _ <close> = self:guard()
        return f(...)
    end
end

--- A condition has wait_for too. A notification is not kept, so there is no state that others could look at.
local function add_condition(call, meta, methods)
    add(call, meta, methods)

    function meta.__wait_source() return nil, "a condition keeps no notification; use its wait or wait_for" end

    --- c:wait_for(predicate [, timeout]) -> the predicate's value | nil, "timeout"
    function methods:wait_for(predicate, timeout)
        if getmetatable(self) ~= meta then check.bad_self(call .. ":wait_for", meta.__name, self) end
        check.callable(call .. ":wait_for", 1, predicate)
        check.timeout(call .. ":wait_for", 2, timeout)
        if not self:is_mine() then check.misuse(call .. ":wait_for", "condition_not_mine") end
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
end

for _, name in ipairs { "Lock", "RLock", "Semaphore", "BoundedSemaphore" } do
    add(name, core[name], core[name].methods)
end
add_condition("Condition", core.Condition, core.Condition.methods)

sync.add, sync.add_condition = add, add_condition -- for those of mp.co

-- A barrier's action and default timeout belong to the object as its maker described it. They are
-- sent with it, since any process may be the last to arrive.
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
    if getmetatable(self) ~= core.Barrier then check.bad_self("Barrier:wait", "mp.Barrier", self) end
    check.timeout("Barrier:wait", 1, timeout)
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
function meta.__wait_source() return nil, "a barrier counts those that wait in it; use its wait" end

local methods = meta.__index
function meta.__index(self, key)
    local method = methods[key]
    if method then return method end
    if key == "parties" then return (self:state()) end
    if key == "n_waiting" or key == "broken" then core.look() end
    if key == "n_waiting" then return (select(2, self:state())) end
    if key == "broken" then return (select(3, self:state())) end
end

local BARRIER = { "parties", "action", "timeout" }

--- Barrier(parties [, action [, timeout]]), or Barrier{ parties =, action =, timeout =, name = }
function sync.Barrier(...)
    local parties, action, timeout, name = check.fields("Barrier", BARRIER, ...)
    if action ~= nil and type(action) ~= "function" then check.fail("Barrier", 2, "action: a function", action) end
    check.timeout("Barrier", 3, timeout)
    if math.type(parties) ~= "integer" or parties < 1 or parties > 65535 then
        check.wrong("Barrier", 1, string.format("number of parties must be an integer from 1 to 65535, got %s",
            type(parties) == "number" and parties or check.kind(parties)))
    end
    local s = { action = action, timeout = timeout }
    local bytes = next(s) and errors.at(3, core.encode_value, "Barrier", "settings", s)
    local b = new_barrier(parties, bytes, name)
    settings[b] = s
    return b
end

return sync
