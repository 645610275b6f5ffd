--- Interactive mode. Without a terminal it is lua's. On a terminal lines are edited (leditor.c), names are
--- completed, values are shown with what they contain, and what was typed is kept in a file. Tasks run
--- while it waits for a line.
local core = require "mpengine.core"
local errors = require "mpengine.errors"

local SIGINT <const> = 2
local COLUMNS <const> = 80 -- of a terminal that does not say

local own_print = print
local on_terminal, editing -- is there a terminal; with line editing
local history, kept_in     -- the module, and the path of the file

local chunk_so_far = "" -- the lines before the one that is edited

local function room()
    local _, columns = core.terminal_size(1)
    return columns or COLUMNS
end

--- A line, or nil at the end of the input.
local function read_line(prompt)
    core.flush()
    if editing then return core.edit_line((prompt:gsub("\27%[[%d;]*%a", ""))) end
    io.write(prompt)
    core.flush()
    return io.read("l")
end

local function remember(text)
    if not history or not text:find "%S" then return end
    core.editor_remember(text)
    if not kept_in then return end
    local ok, why = history.add(kept_in, text)
    if not ok then
        core.write_error(string.format("mpengine: what is typed is not kept: %s\n", why))
        kept_in = nil
    end
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
    chunk_so_far = ""
    local line = read_line(prompt("_PROMPT", "> "))
    if not line then return false end
    local typed = line
    if string.sub(line, 1, 1) == "=" then line = "return " .. string.sub(line, 2) end -- as lua does
    local f = load("return " .. line, "=stdin")
    if f then
        remember(typed)
        return f
    end
    local text = line
    local err
    while true do
        f, err = load(text, "=stdin")
        if f or not is_incomplete(err) then break end
        chunk_so_far = text
        local more = read_line(prompt("_PROMPT2", ">> "))
        if not more then break end
        text, typed = text .. "\n" .. more, typed .. "\n" .. more
    end
    remember(typed)
    return f, err
end

local function report(err)
    core.flush()
    core.write_error(err .. "\n")
end

--- Prints the results of a chunk: as values on a terminal, unless the script has a print of its own.
local function print_results(...)
    if on_terminal and rawequal(_G.print, own_print) then
        own_print(require("mpengine.repl.show").values(room(), ...))
    else
        _G.print(...)
    end
end

local function show(ok, ...)
    if ok and select("#", ...) > 0 then
        local shown, why = pcall(print_results, ...)
        if not shown then report(string.format("error calling 'print' (%s)", errors.message(why))) end
    end
    return ok, ...
end

--- Ctrl-C leaves the line or the chunk, not the program; other signals end it.
local function survive(err)
    if core.signal_of(err) ~= SIGINT then return false end
    core.catch_interrupts() -- the next interrupt counts as the first one again
    return true
end

local function one()
    local f, err = read_chunk()
    if f == false then return 0 end
    if not f then return report(err) end
    local interrupted, ended_by
    local ok, why = show(errors.call(function(e)
        interrupted = core.signal_of(e)
        if interrupted and not survive(e) then ended_by = interrupted end
        return (errors.traceback(e, 3))
    end, f))
    if ended_by then return 128 + ended_by end
    if not ok then report(interrupted and on_terminal and "\n" .. why or why) end
end

local function complete(text)
    local insert, list = require("mpengine.repl.complete").at(text, chunk_so_far, room())
    if list then own_print(list) end
    return insert
end

local function wait_for_key() core.wait_fd(0, "r") end

--- Line editing, and the history of earlier sessions. Says why there is none.
local function begin_editing()
    history = require "mpengine.repl.history"
    local why
    editing, why = core.editor_open(wait_for_key, complete, history.MOST)
    if not editing then
        history = nil
        return core.write_error("mpengine: " .. why .. "\n")
    end
    kept_in = history.path()
    for _, entry in ipairs(kept_in and history.read(kept_in) or {}) do core.editor_remember(entry) end
    local signal = require("mpengine.signal").signal
    signal("WINCH", core.editor_redraw)
    signal("CONT", core.editor_redraw)
end

local function begin()
    on_terminal = core.isatty(0) and core.isatty(1)
    if not on_terminal then return end
    if os.getenv "TERM" ~= "dumb" then begin_editing() end
    if rawget(_G, "help") == nil then _G.help = require("mpengine.repl.help").global end
end

--- Runs until the end of the input, or a signal that ends the program: the exit status.
return function()
    begin()
    if not core.modules["mpengine.co"] then require "mpengine.co" end
    local status
    while not status do
        local ok, ended = pcall(one)
        if ok then
            status = ended
        elseif survive(ended) then
            if on_terminal then io.write("^C\n") end
        elseif core.signal_of(ended) then
            return 128 + core.signal_of(ended)
        else
            report(errors.message(ended))
        end
    end
    io.write("\n")
    return status
end
