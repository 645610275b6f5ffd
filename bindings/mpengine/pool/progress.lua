--- How far a map has come: a bar on a terminal, lines without one, or a callback.
local core = require "mpengine.core"
local errors = require "mpengine.errors"

local progress = {}

local WIDTH = 30
local BAR_EVERY, LINE_EVERY = 0.1, 5 -- seconds

local function clock(seconds)
    seconds = math.floor(seconds + 0.5)
    return ("%d:%02d"):format(seconds // 60, seconds % 60)
end

local function describe(p)
    local elapsed = core.now() - p.from
    local rate = elapsed > 0 and p.done / elapsed or 0
    local left = p.total and rate > 0 and clock((p.total - p.done) / rate) or "?"
    local text = ("%d/%s  %.0f/s  elapsed %s  left %s"):format(p.done, p.total or "?", rate, clock(elapsed), left)
    if p.failed > 0 then text = text .. ("  failed %d"):format(p.failed) end
    return text
end

local function draw_bar(p)
    local part = p.total and p.total > 0 and p.done / p.total or 1
    local full = math.floor(part * WIDTH)
    core.write_error(("\r[%s%s] %s\27[K"):format(("#"):rep(full), ("."):rep(WIDTH - full), describe(p)))
end

local function draw_line(p)
    core.write_error(describe(p) .. "\n")
end

--- option: true for a bar or lines, "lines" for lines, a function (done, total, failed). nil: none.
function progress.new(option, total)
    if not option then return nil end
    local p = { done = 0, failed = 0, total = total, from = core.now() }
    if type(option) == "function" then
        p.call = option
    elseif core.isatty(2) and option ~= "lines" then
        p.draw, p.every, p.bar = draw_bar, BAR_EVERY, true
    else
        p.draw, p.every = draw_line, LINE_EVERY
    end
    p.last = p.from
    return p
end

--- Calls the function, whose error is shown and nothing else; then what waits for it.
local function call_back(p, done, failed, after)
    local ok, err = xpcall(p.call, errors.traceback, done, p.total, failed)
    if not ok then core.write_error(("mpengine: error in a progress function: %s\n"):format(err)) end
    if after then after() end
end

--- n more items have ended, failed of them badly. after() is called when that has been shown: a function
--- that is told runs as a task of its own, since it may wait, for the pool too.
function progress.add(p, n, failed, after)
    p.done, p.failed = p.done + n, p.failed + failed
    if p.call then
        core.spawn(call_back, p, p.done, p.failed, after)
        return
    end
    local now = core.now()
    local ended = p.done == p.total
    if now - p.last >= p.every or (ended and p.bar) then
        p.last = now
        p.draw(p)
    end
    if ended and p.bar then core.write_error("\n") end
    if after then after() end
end

return progress
