--- The progress of a map or a loop: a bar on a terminal, lines elsewhere, or a callback. A bar has a row
--- of the terminal to itself if there is one, and is in the current line otherwise.
local core = require "mpengine.core"
local bars = require "mpengine.bars"
local errors = require "mpengine.errors"
local screen = require "mpengine.look.screen"

local progress = {}

local WIDTH, NARROWEST = 30, 5 -- columns of a bar
local BAR_EVERY, LINE_EVERY = 0.1, 5 -- seconds

local function clock(seconds)
    seconds = math.floor(seconds + 0.5)
    return ("%d:%02d"):format(seconds // 60, seconds % 60)
end

local function describe(p)
    local elapsed = core.now() - p.from
    local rate = elapsed > 0 and p.done / elapsed or 0
    local left = p.total and rate > 0 and clock(math.max(0, p.total - p.done) / rate) or "?"
    local text = ("%d/%s  %.0f/s  elapsed %s  left %s"):format(p.done, p.total or "?", rate, clock(elapsed), left)
    if p.failed > 0 then text = text .. ("  failed %d"):format(p.failed) end
    return text
end

-- Text that fits into a row, with whole characters.
local function cut(text) return (screen.cut(text, bars.columns())) end

-- A narrow terminal has a shorter bar.
local function bar_text(p)
    local part = p.total and (p.total == 0 and 1 or math.min(1, p.done / p.total)) or 0
    local text = describe(p)
    local _, before = screen.cut(p.label, math.maxinteger)
    local width = math.max(NARROWEST, math.min(WIDTH, bars.columns() - before - #text - 3))
    local full = math.floor(part * width)
    return ("%s[%s%s] %s"):format(p.label, ("#"):rep(full), ("."):rep(width - full), text)
end

local function draw_bar(p)
    core.write_error(("\r%s\27[K"):format(cut(bar_text(p))))
end

local function draw_row(p)
    p.row:draw(cut(bar_text(p)))
end

local function draw_line(p)
    p.has_line, p.told = true, p.total and p.done
    core.write_error(p.label .. describe(p) .. "\n")
end

local function traceback(err) return (errors.traceback(err, 3)) end

--- Calls the function; an error in it is only shown. Then calls what waits for it.
local function call_back(p, done, total, failed, after)
    local ok, text = errors.call(traceback, p.call, done, total, failed)
    if not ok then core.report(1, string.format("mpengine: error in a progress function: %s", text)) end
    if after then after() end
end

--- The task that makes the calls one after the other, since they may wait, also for the pool.
local function make_calls(p)
    local at = 1
    while p.calls[at] do
        call_back(p, table.unpack(p.calls[at], 1, 4))
        p.calls[at] = nil
        at = at + 1
    end
    p.calls = nil
    p.returned:wake()
end

local function start_call(p, after)
    local call = { p.done, p.total, p.failed, after }
    if p.calls then
        p.last_call = p.last_call + 1
        p.calls[p.last_call] = call
        return
    end
    p.calls, p.last_call = { call }, 1
    core.spawn(make_calls, p)
end

--- option: true for a bar or lines, "lines" for lines, a function (done, total, failed). nil: none.
--- A total that is only expected is no end of it: more items may come.
---@param label? string
---@param is_expected? boolean
function progress.new(option, total, label, is_expected)
    if not option then return nil end
    local p = {
        done = 0, failed = 0, total = total, label = label and core.escaped(label) .. " " or "", from = core.now(),
        is_expected = is_expected,
    }
    if type(option) == "function" then
        p.call, p.returned = option, core.waitlist()
    elseif core.isatty(2) and option ~= "lines" then
        p.row = bars.open()
        p.draw, p.every, p.bar = p.row and draw_row or draw_bar, BAR_EVERY, true
        if p.row then draw_row(p) end
    else
        p.draw, p.every = draw_line, LINE_EVERY
    end
    p.last = p.from
    return p
end

--- All items have ended: shows that, once.
function progress.finish(p)
    local shown, unknown = p.finished, p.total == nil
    p.finished, p.total = true, p.total or p.done
    if shown then return end
    if p.row then
        p.row:close(cut(bar_text(p)))
    elseif p.has_line then
        if p.told ~= p.done then p.draw(p) end
    elseif p.bar then
        p.draw(p)
        core.write_error("\n")
    elseif p.call and unknown then
        start_call(p)
    end
end

--- Waits until the calls of the function have returned.
function progress.wait(p)
    while p.calls do p.returned:wait() end
end

--- n more items have ended, `failed` of them with an error. after() is called when that has been
--- shown.
function progress.add(p, n, failed, after)
    p.done, p.failed = p.done + n, p.failed + failed
    if p.call then return start_call(p, after) end
    local now = core.now()
    if p.done == p.total and not p.is_expected then
        progress.finish(p)
    elseif now - p.last >= p.every and not p.finished then
        p.last = now
        p.draw(p)
    end
    if after then after() end
end

return progress
