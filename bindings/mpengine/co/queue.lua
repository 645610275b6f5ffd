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
        local maxsize, is_closed, size, called = core.coqueue_state(self)
        local closed = is_closed and ", closed" or ""
        local items = maxsize > 0 and ("%d of %d items"):format(size, maxsize) or ("%d items"):format(size)
        return class.title("mp.co." .. name, self, called, items .. closed)
    end

    meta.__ready = core.coqueue_is_ready -- see waitable.lua

    function meta:__wait_source()
        return core.coqueue_watchers(self) or core.coqueue_watchers(self, core.waitlist(self))
    end
end

complete("Queue", Queue)
complete("JoinableQueue", core.CoJoinableQueue)

local MAXSIZE <const> = { "maxsize" }

local function new(call, first, joinable)
    local maxsize, name = class.fields(call, MAXSIZE, first)
    check.count(call, 1, maxsize, 0, "maxsize", 0x7fffffff)
    return core.coqueue(maxsize, joinable, name)
end

---@param maxsize? integer | { maxsize?: integer, name?: string }  0 or absent: no bound
---@return mp.co.Queue
function queues.Queue(maxsize) return new("co.Queue", maxsize, false) end

---@param maxsize? integer | { maxsize?: integer, name?: string }
---@return mp.co.Queue
function queues.JoinableQueue(maxsize) return new("co.JoinableQueue", maxsize, true) end

---@param opts? { name?: string }
---@return mp.co.Queue
function queues.SimpleQueue(opts) return core.coqueue(nil, false, class.name_in("co.SimpleQueue", opts)) end

return queues
