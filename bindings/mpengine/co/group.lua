--- co.Group and co.Pool: tasks that are joined and killed together; a pool also limits their
--- number.
local core = require "mpengine.core"
local check = require "mpengine.check"
local tasks = require "mpengine.co.tasks"
local waiting = require "mpengine.co.wait"
local locks = require "mpengine.co.locks"
local class = require "mpengine.co.class"

local group = {}

---@class mp.co.Group
local methods = {}
local Group = { __name = "mp.co.Group", __index = methods }

local function describe(self)
    local named = self.name and (" '%s'"):format(core.escaped(self.name)) or ""
    return ("%s:%s %d task%s"):format(getmetatable(self).__name, named, self.count, self.count == 1 and "" or "s")
end
Group.__tostring = describe

local Pool -- the other class

--- The public name of a method of either class.
local function called(self, name)
    local meta = getmetatable(self)
    if meta ~= Group and meta ~= Pool then check.bad_self("co.Group:" .. name, "mp.co.Group", self) end
    return (meta == Pool and "co.Pool:" or "co.Group:") .. name
end

local function ended(self, task)
    if not self.tasks[task] then return end
    self.tasks[task] = nil
    self.count = self.count - 1
    if self.places then self.places:release() end
end

local function adopt(self, task)
    self.tasks[task] = true
    self.count = self.count + 1
    tasks.on_end(task, function() ended(self, task) end)
    return task
end

--- Spawns a task in the group. In a pool without room this waits.
---@param f function
---@return mp.Task
function methods:spawn(f, ...)
    check.callable(called(self, "spawn"), 1, f)
    if self.places then self.places:acquire() end
    return adopt(self, core.spawn_task(f, ...))
end

--- Adds a task.
---@param task mp.Task
function methods:add(task)
    tasks.check(called(self, "add"), 1, task)
    if self.tasks[task] or core.is_done(task) then return end
    if self.places then
        self.places:acquire()
        if core.is_done(task) then
            self.places:release()
            return
        end
    end
    adopt(self, task)
end

--- Removes a task.
---@param task mp.Task
function methods:discard(task)
    tasks.check(called(self, "discard"), 1, task)
    ended(self, task)
end

local function list(self)
    local found = {}
    for task in pairs(self.tasks) do found[#found + 1] = task end
    return found
end

--- Waits until the group is empty: true, or nil, "timeout".
---@param timeout? number
---@param raise_error? boolean  raise the error of the first that failed
function methods:join(timeout, raise_error)
    check.timeout(called(self, "join"), 1, timeout)
    local deadline = timeout and core.now() + timeout
    while self.count > 0 do
        local left = deadline and math.max(0, deadline - core.now())
        local members = list(self)
        local done = waiting.joinall(members, left, raise_error and { raise_error = true } or nil)
        if #done < #members then return nil, "timeout" end
    end
    return true
end

--- Kills its tasks; does not wait for their ends.
---@param reason? any
function methods:kill(reason)
    called(self, "kill")
    for _, task in ipairs(list(self)) do task:kill(reason) end
end

function Group.__len(self)
    core.look()
    return self.count
end

---@param opts? { name?: string }
---@return mp.co.Group
function group.Group(opts)
    return setmetatable({ tasks = {}, count = 0, name = class.name_in("co.Group", opts) }, Group)
end

-- ---- Pool ----

---@class mp.co.Pool : mp.co.Group
local pool_methods = setmetatable({}, { __index = methods })
Pool = { __name = "mp.co.Pool", __index = pool_methods, __tostring = describe, __len = Group.__len }

--- How many more tasks it has room for.
function pool_methods:free_count()
    called(self, "free_count")
    return self.places:get_value()
end

--- Waits for room; true, or nil, "timeout".
---@param timeout? number
function pool_methods:wait_available(timeout)
    check.timeout(called(self, "wait_available"), 1, timeout)
    local ok, why = self.places:acquire(timeout)
    if not ok then return nil, why end
    self.places:release()
    return true
end

local SIZE <const> = { "size" }

---@param size? integer | { size?: integer, name?: string }  how many tasks may run at once; absent: any number
---@return mp.co.Pool
function group.Pool(size)
    local n, name = class.fields("co.Pool", SIZE, size)
    check.count("co.Pool", 1, n, 1, "number of tasks")
    local places = locks.Semaphore { value = n or 0x7fffffff, name = name }
    return setmetatable({ tasks = {}, count = 0, places = places, size = n, name = name }, Pool)
end

group.pool_methods = pool_methods
require "mpengine.co.maps"(pool_methods, called)

return group
