--- co.Queue, co.JoinableQueue and co.SimpleQueue: the parts of lcoqueue.c that need no speed.
local core = require "mpengine.core"
local check = require "mpengine.check"
local class = require "mpengine.co.class"

local queues = {}

---@class mp.co.Queue
local Queue = core.CoQueue
local methods = Queue.__index

--- for v in q:iter(): until it is closed and drained.
function methods:iter()
    if getmetatable(self) ~= Queue then check.bad_self("co.Queue:iter", "mp.co.Queue", self) end
    return function()
        local v, why = self:get()
        if v == nil and why == nil then error("co.Queue:iter: a nil item would end the loop", 2) end
        return v
    end
end

Queue.__close = methods.close

function Queue:__tostring()
    local maxsize, is_closed, size = core.coqueue_state(self)
    local closed = is_closed and ", closed" or ""
    local items = maxsize > 0 and ("%d of %d items"):format(size, maxsize) or ("%d items"):format(size)
    return ("mp.co.Queue: %d (%s%s)"):format(class.number_of(self), items, closed)
end

Queue.__ready = core.coqueue_is_ready -- see waitable.lua

function Queue:__wait_source()
    return core.coqueue_watchers(self) or core.coqueue_watchers(self, core.waitlist())
end

local function new(call, maxsize, joinable)
    check.count(call, 1, maxsize, 0, "maxsize")
    return core.coqueue(maxsize, joinable)
end

---@param maxsize? integer  0 or absent: no bound
---@return mp.co.Queue
function queues.Queue(maxsize) return new("co.Queue", maxsize, false) end

---@param maxsize? integer
---@return mp.co.Queue
function queues.JoinableQueue(maxsize) return new("co.JoinableQueue", maxsize, true) end

---@return mp.co.Queue
function queues.SimpleQueue() return core.coqueue() end

return queues
