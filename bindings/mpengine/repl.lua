--- Interactive mode: like lua's, with line editing where readline or libedit is installed. Tasks
--- run while it waits for a line.
local core = require "mpengine.core"
local errors = require "mpengine.errors"

local editing

local function edit_line(prompt)
    core.readline_begin(prompt)
    while true do
        local ok, err = pcall(core.wait_fd, 0, "r")
        if not ok then
            core.readline_cancel()
            error(err, 0)
        end
        local done, line = core.readline_feed()
        if done then return line end
    end
end

--- A line, or nil at the end of the input.
local function read_line(prompt)
    core.flush()
    if editing then return edit_line(prompt) end
    io.write(prompt)
    core.flush()
    return io.read("l")
end

local function is_incomplete(message)
    return message and string.sub(message, -5) == "<eof>"
end

--- The prompt that the script has set; the default if it cannot be shown.
local function prompt(name, default)
    local value = _G[name]
    if value == nil then return default end
    local ok, text = pcall(tostring, value)
    return ok and text or default
end

--- A whole statement, or expression, as a function; nil and the message; false at the end.
local function read_chunk()
    local line = read_line(prompt("_PROMPT", "> "))
    if not line then return false end
    if string.sub(line, 1, 1) == "=" then line = "return " .. string.sub(line, 2) end -- as lua does
    local f = load("return " .. line, "=stdin")
    if f then
        core.add_history(line)
        return f
    end
    local text = line
    local err
    while true do
        f, err = load(text, "=stdin")
        if f or not is_incomplete(err) then break end
        local more = read_line(prompt("_PROMPT2", ">> "))
        if not more then break end
        text = text .. "\n" .. more
    end
    core.add_history(text)
    return f, err
end

local function report(err)
    core.flush()
    core.write_error(err .. "\n")
end

local function show(ok, ...)
    if ok and select("#", ...) > 0 then
        local shown, why = pcall(_G.print, ...)
        if not shown then report(string.format("error calling 'print' (%s)", errors.message(why))) end
    end
    return ok, ...
end

local function one()
    local f, err = read_chunk()
    if f == false then return true end
    if not f then return report(err) end
    local ok, why = show(errors.call(function(e)
        if core.signal_of(e) then core.catch_interrupts() end -- the next interrupt counts as the first one again
        return (errors.traceback(e, 3))
    end, f))
    if not ok then report(why) end
end

return function()
    editing = core.is_terminal(0) and core.readline_open()
    if not core.modules["mpengine.co"] then require "mpengine.co" end
    while true do
        local ok, ended = pcall(one)
        if ok and ended then break end
        if not ok and core.signal_of(ended) then core.catch_interrupts()
        elseif not ok then report(errors.message(ended)) end
    end
    io.write("\n")
    return 0
end
