--- The rows of a terminal that show bars, one for each bar of all processes.
---
--- The bars have the last rows, and the terminal scrolls only the rows above them, so that whatever
--- any process prints, also another program, appears above. Which rows are taken is in a shared dict
--- that all processes find by its name: `rows[n] = pid` for the n-th row from below, and `rows.height`,
--- how many rows do not scroll. Both change, and the terminal with them, under the lock in `rows.lock`.
---
--- A process that is killed leaves its row, and the rows as they are. The next bar takes the row,
--- and the next bar that closes lets the rows scroll again.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local proc = require "mpengine.look.proc"

local bars = {}

local NAME <const> = "=mpengine/bars"
local MOST <const> = 16 -- bars at once
local FREE_ROWS <const> = 4 -- which scroll in any case
local LOCK_SECONDS <const> = 1 -- a holder that is stopped costs a bar its place, not the loop

---@class mpengine.bars.Bar
---@field n integer its row, from below
---@field pid integer
local Bar = {}
Bar.__index = Bar

local open = {} -- the bars of this process

local function shared_rows()
    local rows = core.find(NAME, 0)
    if rows then return rows end
    rows = core.makers.Dict { lock = core.makers.Lock() }
    rows:set("height", 0)
    if pcall(core.name, NAME, rows) then return rows end
    return core.find(NAME, 0) -- another process was first
end

local function is_taken(rows, n)
    local pid = rows:get(n)
    return pid and proc.state(pid) ~= nil
end

local function height_of(rows)
    for n = MOST, 1, -1 do
        if is_taken(rows, n) then return n end
    end
    return 0
end

-- Everything but the last rows scrolls. The cursor stays where it is.
local function region(size, height)
    return height == 0 and "\0277\27[r\0278" or ("\0277\27[1;%dr\0278"):format(size - height)
end

local function at_row(size, n, text)
    return ("\0277\27[%d;1H\r%s\27[K\0278"):format(size - n + 1, text)
end

-- Makes room: the text scrolls as far as it is in the way.
local function grow(rows, size, height)
    local more = height - rows:get("height")
    if more <= 0 then return end
    rows:set("height", height)
    core.write_error(("\27D"):rep(more) .. ("\27[%dA"):format(more) .. region(size, height))
end

local function take(rows, size)
    for n = 1, math.min(MOST, size - FREE_ROWS) do
        if not is_taken(rows, n) then
            rows:set(n, core.pid())
            grow(rows, size, n)
            return setmetatable({ rows = rows, n = n, pid = core.pid(), size = size }, Bar)
        end
    end
end

-- Calls f(...) with the lock; nil when the lock is not to be had.
local function locked(rows, f, ...)
    local lock = rows:get("lock")
    if not lock:acquire(LOCK_SECONDS) then return nil end
    local good, result = core.call(f, ...)
    lock:release()
    if not good then error(result, 0) end
    return result
end

--- A row of the terminal of standard error for a bar. nil: this terminal cannot, or has no row left.
---@return mpengine.bars.Bar?
function bars.open()
    local size = core.terminal_size(2)
    local term = os.getenv "TERM"
    if not size or size <= FREE_ROWS or not term or term == "dumb" then return nil end
    local rows = shared_rows()
    local bar = rows and locked(rows, take, rows, size)
    if bar then open[bar] = true end
    return bar
end

--- How many columns a text may have.
---@return integer
function bars.columns()
    local _, columns = core.terminal_size(2)
    return columns and columns > 0 and columns - 1 or 79
end

--- Shows a text in the bar's row.
---@param text string
function Bar:draw(text)
    local size = core.terminal_size(2) or self.size
    local resized = size ~= self.size and region(size, self.rows:get("height")) or ""
    self.size = size
    core.write_error(resized .. at_row(size, self.n, text))
end

local function give_up(self, text)
    local rows = self.rows
    rows:set(self.n, nil)
    local height = height_of(rows)
    local out = at_row(self.size, self.n, "")
    if height ~= rows:get("height") then
        rows:set("height", height)
        out = out .. region(self.size, height)
    end
    if text then out = out .. "\r" .. text .. "\27[K\n" end
    core.write_error(out)
end

--- Gives the row up, and prints the text, if there is one, as a line above the rows.
---@param text? string
function Bar:close(text)
    if not open[self] or self.pid ~= core.pid() then return end
    open[self] = nil
    locked(self.rows, give_up, self, text)
end

--- The process exits without the end of its loops.
function bars.close_all()
    for bar in pairs(open) do pcall(bar.close, bar) end
end

return bars
