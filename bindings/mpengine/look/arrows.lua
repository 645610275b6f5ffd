--- The arrows of a trace, between what events.lua has found: from the producer of an item to its
--- consumer, from what ended a wait to the task that waited, from the start of a process to its
--- beginning and from its end to the task that joins it. What has happened is { at, pid, tid }.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local SLACK <const> = 100000 -- ns that a wait may be noted after it began

--- The last of a list, by time, that is not later.
local function last_before(list, at)
    local low, high = 0, #list
    while low < high do
        local middle = (low + high + 1) // 2
        if list[middle][1] <= at then low = middle else high = middle - 1 end
    end
    return list[low]
end

local function by_time(a, b) return a[1] < b[1] end

--- Arrows to those that have waited for objects, from what ended the wait: the last before it.
local function connect_waits(self, name, waiters, wakers)
    for handle, list in pairs(waiters) do
        local by, cat = wakers[handle] or {}, name == "lock" and name or self:cat(handle)
        table.sort(by, by_time)
        for _, to in ipairs(list) do
            local from, key = last_before(by, to[1]), to[2] << 32 | to[3]
            if from and from[1] >= to[4] - SLACK and not (from.to and from.to[key]) then
                from.to = from.to or {}
                from.to[key] = true -- a task that waits again for the same was not woken twice
                self:flow(name, cat, from, to)
            end
        end
    end
end

local function connect_processes(self)
    for _, begin in ipairs(self.begins) do
        local slot, at, p = table.unpack(begin)
        local starts = self.starts[slot]
        local from = starts and last_before(starts, at)
        if from then
            self:instant("begins", "process", p.pid, p.main or 1, at)
            self:flow("start", "process", from, { at, p.pid, p.main or 1 })
        end
    end
    for pid, list in pairs(self.joined) do
        for _, to in ipairs(self.exits[pid] and list or {}) do self:flow("exit", "process", self.exits[pid], to) end
    end
end

local function connect_items(self)
    for object, gets in pairs(self.gets) do
        local puts = self.puts[object] or {}
        for _, get in ipairs(gets) do
            if puts[get[4]] then self:flow("item", self:cat(object), puts[get[4]], get) end
        end
    end
end

return function(self)
    connect_items(self)
    connect_waits(self, "lock", self.acquired, self.released)
    connect_waits(self, "wake", self.woken, self.wakes)
    connect_waits(self, "room", self.roomy, self.gets)
    connect_processes(self)
end
