--- co.Queue and co.JoinableQueue: items are handed to waiting takers in the order of their arrival.
--- `promised` items in the queue, or places in it, belong to waiters who were woken and have not
--- run yet; nobody else sees them.
local core = require "mpengine.core"
local check = require "mpengine.check"
local class = require "mpengine.co.class"

local queues = {}

local waitlist, check_cancelled = core.waitlist, core.check_cancelled
local wait, wake = core.waitlist_wait, core.waitlist_wake

---@class mp.co.Queue
local Queue, methods = class("Queue", function(self)
    local closed = self.closed and ", closed" or ""
    local size = self:qsize()
    if self.maxsize > 0 then return ("%d of %d items%s"):format(size, self.maxsize, closed) end
    return ("%d items%s"):format(size, closed)
end)

-- Items lie at first..last of a table; nil has a stand-in.
local NOTHING <const> = {}

-- Whether anybody waits is known without a call: a flag is set by whoever begins to, and cleared
-- when a wake finds nobody.

local function tell_watchers(self)
    local watchers = self.watchers
    if watchers then watchers:wake() end
end

-- ---- put ----

local function size(self)
    return self.last - self.first + 1 - self.promised_items
end

local function has_room(self)
    local maxsize = self.maxsize
    return maxsize == 0 or self.last - self.first + 1 - self.promised_items + self.promised_places < maxsize
end

local function add(self, v)
    local last = self.last + 1
    if v == nil then v = NOTHING end
    self.last, self.items[last] = last, v
    if self.finished then self.unfinished = self.unfinished + 1 end
    if self.has_takers then
        if wake(self.takers, 1) == 1 then
            self.promised_items = self.promised_items + 1
            return true
        end
        self.has_takers = false
    end
    if self.watchers then tell_watchers(self) end
    return true
end

--- true, or nil, "full", or nil, "closed"
---@param v any
---@param timeout? number
function methods:put(v, timeout)
    if timeout ~= nil then check.timeout("put", 2, timeout) end
    if self.closed then return nil, "closed" end
    local maxsize = self.maxsize
    if maxsize == 0 or self.last - self.first + 1 - self.promised_items + self.promised_places < maxsize then
        check_cancelled()
        return add(self, v)
    end
    self.has_putters = true
    if not wait(self.putters, timeout) then return nil, "full" end
    self.promised_places = self.promised_places - 1
    if self.closed then return nil, "closed" end
    return add(self, v)
end

function methods:put_nowait(v) return self:put(v, 0) end

-- ---- get ----

-- A place has become free: it goes to the first who waits for one.
local function give_place(self)
    if not has_room(self) then return end
    if wake(self.putters, 1) == 1 then
        self.promised_places = self.promised_places + 1
    else
        self.has_putters = false
    end
end

local function pop(self)
    local first, items = self.first, self.items
    local v = items[first]
    items[first] = nil
    if first == self.last then
        self.first, self.last = 1, 0
    else
        self.first = first + 1
    end
    if v == NOTHING then return nil end
    return v
end

--- An item, or nil, "empty", or nil, "closed" when it is closed and drained.
---@param timeout? number
function methods:get(timeout)
    if timeout ~= nil then check.timeout("get", 1, timeout) end
    if self.last - self.first + 1 - self.promised_items <= 0 then
        if self.closed then return nil, "closed" end
        self.has_takers = true
        if not wait(self.takers, timeout) then return nil, "empty" end
        if self.promised_items == 0 then return nil, "closed" end
        self.promised_items = self.promised_items - 1
        return pop(self)
    end
    check_cancelled()
    local v = pop(self)
    if self.has_putters then give_place(self) end
    return v
end

function methods:get_nowait() return self:get(0) end

--- for v in q:iter(): until it is closed and drained.
function methods:iter()
    return function()
        local v, why = self:get()
        if v == nil and why == nil then error("iter: a nil item would end the loop", 2) end
        return v
    end
end

-- ---- the rest ----

function methods:qsize() return size(self) end
function methods:empty() return self:qsize() == 0 end
function methods:full() return not has_room(self) end

--- Later puts fail; gets go on until it is empty.
function methods:close()
    if self.closed then return end
    self.closed = true
    self.takers:wake()
    self.promised_places = self.promised_places + self.putters:wake()
    tell_watchers(self)
end

--- One item that was taken is done. Raises when called more often than there were items.
function methods:task_done()
    if not self.finished then error("task_done: the queue is not a JoinableQueue", 2) end
    if self.unfinished == 0 then error("task_done: called more often than there were items", 2) end
    self.unfinished = self.unfinished - 1
    if self.unfinished == 0 then self.finished:wake() end
end

--- Waits until every item is done: true, or nil, "timeout".
---@param timeout? number
function methods:join(timeout)
    check.timeout("join", 1, timeout)
    if not self.finished then error("join: the queue is not a JoinableQueue", 2) end
    check_cancelled()
    if self.unfinished == 0 then return true end
    return self.finished:wait(timeout)
end

Queue.__close = methods.close
function Queue.__ready(self) return self.closed or self:qsize() > 0 end

local function new(call, maxsize, joinable)
    check.count(call, 1, maxsize, 0, "maxsize")
    return setmetatable({
        items = {}, first = 1, last = 0, maxsize = maxsize or 0, unfinished = 0,
        promised_items = 0, promised_places = 0, closed = false, has_takers = false, has_putters = false,
        takers = waitlist(), putters = waitlist(), finished = joinable and waitlist() or nil,
    }, Queue)
end

---@param maxsize? integer  0 or absent: no bound
---@return mp.co.Queue
function queues.Queue(maxsize) return new("Queue", maxsize, false) end

---@param maxsize? integer
---@return mp.co.Queue
function queues.JoinableQueue(maxsize) return new("JoinableQueue", maxsize, true) end

---@return mp.co.Queue
function queues.SimpleQueue() return new("SimpleQueue", nil, false) end

return queues
