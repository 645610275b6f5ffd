--- One call at a time on a socket or file, in one direction. Calls are served in the order in which
--- they were made, so that each gets, or sends, data that belongs together.
local core = require "mpengine.core"

local order = {}

---@class mpengine.order
---@field busy boolean a call is under way
---@field waiting mpengine.waitlist? the callers behind it
local Order = {}
Order.__index = Order

--- Begins a call, when the earlier ones have ended: true, or nil, "timeout".
---@param timeout? number
function Order:enter(timeout)
    if not self.busy then
        self.busy = true
        return true
    end
    if not self.waiting then self.waiting = core.waitlist(self) end
    return self.waiting:wait(timeout)
end

--- Ends it: the next call may begin.
function Order:leave()
    if not self.waiting or self.waiting:wake(1) == 0 then self.busy = false end
end

local function left(self, ok, ...)
    self:leave()
    if not ok then error(..., 0) end
    return ...
end

--- The results of f, in a call that has begun and ends with it.
function Order:run(f, ...) return left(self, core.call(f, ...)) end

---@return mpengine.order
function order.new() return setmetatable({ busy = false }, Order) end

return order
