--- Tasks that wait for what comes over one connection take turns to read it: one reads, for all. When its own wait is
--- over another one reads.
---
--- A task that is called to read may be cancelled, or have its deadline, before it runs. So every task that leaves,
--- the reader or not, looks whether one reads, and calls the first that waits if none does.
local core = require "mpengine.core"
local Event = require("mpengine.co").Event

---@class mpengine.remote.Item what a task waits for
---@field done boolean? it is there
---@field event mp.co.Event? set when a task waits and another one reads

---@class mpengine.remote.Turn
---@field first mpengine.remote.Place? of the tasks that wait
---@field last mpengine.remote.Place?
---@field reader mpengine.remote.Place? the one that reads
local Turn = {}
Turn.__index = Turn

---@class mpengine.remote.Place of a task that waits
---@field turn mpengine.remote.Turn
---@field item mpengine.remote.Item
---@field before mpengine.remote.Place?
---@field after mpengine.remote.Place?
local Place = {}

local function append(self, item)
    local place = setmetatable({ turn = self, item = item, before = self.last }, Place)
    if self.last then self.last.after = place else self.first = place end
    self.last = place
    return place
end

function Place.__close(place)
    local self, before, after = place.turn, place.before, place.after
    if before then before.after = after else self.first = after end
    if after then after.before = before else self.last = before end
    if self.reader == place then self.reader = nil end
    if not self.reader and self.first then self.first.item.event:set() end
end

--- The item is there: its task goes on.
---@param item mpengine.remote.Item
local function finish(item)
    item.done = true
    if item.event then item.event:set() end
end

--- Waits until the item is done: true, or false at the deadline. Meanwhile this task may read for others.
---@param item mpengine.remote.Item
---@param deadline number? of core.now
---@param read fun(of, item: mpengine.remote.Item, deadline: number?) waits for what comes, until the item is done or
---the deadline, and finishes each item that it hears of
---@param of any
---@return boolean
function Turn:wait(item, deadline, read, of)
    if item.done then return true end
    local place <close> = append(self, item)
    while not item.done do
        if not self.reader or self.reader == place then
            self.reader = place
            read(of, item, deadline)
        else
            item.event = item.event or Event()
            item.event:wait(deadline and math.max(0, deadline - core.now()))
            item.event:clear()
        end
        if not item.done and deadline and core.now() >= deadline then return false end
    end
    return true
end

return { new = function() return setmetatable({}, Turn) end, finish = finish }
