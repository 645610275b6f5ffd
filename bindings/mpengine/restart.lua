--- Pauses before something that has ended is started again, or has failed is called again: each is twice
--- as long as the one before, and they begin anew once it has run for a while. They vary by a part, a
--- quarter by default, so that many that ended together do not start together.
local core = require "mpengine.core"

local restart = {}

---@class mpengine.restart.Pauses
---@field first number seconds
---@field most number seconds
---@field next_one number
---@field jitter number the part by which they vary
local Pauses = {}
Pauses.__index = Pauses

--- Not math.random, whose numbers are the script's.
local state = 0
local function random()
    state = (state + (core.now() * 1e9 // 1 | 0) ~ core.pid()) * 6364136223846793005 + 1442695040888963407
    return (state >> 11) / 2 ^ 53
end

--- The next pause, in seconds.
---@return number
function Pauses:take()
    local pause = self.next_one
    self.next_one = math.min(pause * 2, self.most)
    local least = math.max(self.first, pause * (1 - self.jitter))
    return least + random() * (math.min(self.most, pause * (1 + self.jitter)) - least)
end

--- It has run well: the next pause is the first one again.
function Pauses:reset() self.next_one = self.first end

--- Pauses from `first` to `most` seconds.
---@param first number
---@param most number
---@param jitter? number from 0 to 1
---@return mpengine.restart.Pauses
function restart.pauses(first, most, jitter)
    return setmetatable({ first = first, most = most, next_one = first, jitter = jitter or 0.25 }, Pauses)
end

return restart
