--- co.Queue, co.JoinableQueue and co.SimpleQueue: the parts of lcoqueue.c that need no speed.
local core = require "mpengine.core"
local check = require "mpengine.check"
local class = require "mpengine.co.class"

local queues = {}

---@class mp.co.Queue
local Queue = core.CoQueue

--- Adds what is written in Lua to a type; name as in co.NAME.
local function complete(name, meta)
    local methods, iter = meta.__index, "co." .. name .. ":iter"

    --- for v in q:iter(): until it is closed and drained.
    function methods:iter()
        if getmetatable(self) ~= meta then check.bad_self(iter, meta.__name, self) end
        return function()
            local v, why = self:get()
            if v == nil and why == nil then check.misuse(iter, "nil_item") end
            return v
        end
    end

    meta.__close = methods.close

    function meta:__tostring()
        local maxsize, is_closed, size = core.coqueue_state(self)
        local closed = is_closed and ", closed" or ""
        local items = maxsize > 0 and ("%d of %d items"):format(size, maxsize) or ("%d items"):format(size)
        return ("mp.co.%s: %d (%s%s)"):format(name, class.number_of(self), items, closed)
    end

    meta.__ready = core.coqueue_is_ready -- see waitable.lua

    function meta:__wait_source()
        return core.coqueue_watchers(self) or core.coqueue_watchers(self, core.waitlist())
    end
end

complete("Queue", Queue)
complete("JoinableQueue", core.CoJoinableQueue)

local function new(call, maxsize, joinable)
    check.count(call, 1, maxsize, 0, "maxsize", 0x7fffffff)
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
