--- mpengine --trace=out.json script.lua: this process becomes the reader, and runs itself again for
--- the script, whose standard streams, exit status and signals are this one's.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local FORWARDED <const> = { 1, 3, 10, 12, 15 } -- HUP, QUIT, USR1, USR2, TERM; a terminal sends INT to both

local function forward(child)
    local signal = require("mpengine.signal").signal
    for _, number in ipairs(FORWARDED) do
        signal(number, function() core.kill_pid(child.pid, number) end)
    end
    signal(2, function() end)
end

--- Runs the command line argv, in which place has the option, with the trace into a file.
---@return integer status
return function(argv, place, path)
    local command = require "mpengine.look.command"
    local write, drop = command.trace_output(path)
    if not write then return drop end
    local tracer, why = core.tracer()
    if not tracer then
        drop()
        return command.refuse("--trace", why)
    end
    local words = table.move(argv, 0, #argv, 1, {})
    words[place + 1] = ("--traced=%d"):format(tracer:word())
    local from = core.now()
    local child, message = require("mpengine.subprocess.child").launch {
        argv = words, stdin = "inherit", stdout = "inherit", stderr = "inherit",
    }
    if not child then
        drop()
        return command.refuse("--trace", message)
    end
    forward(child)
    local found = require("mpengine.look.trace").whole(child, tracer, argv[place + 1] or "?", from)
    local failed = write(found)
    local status = child:status()
    if status < 0 then
        core.kill_pid(core.pid(), -status)
        return 128 - status
    end
    return failed ~= 0 and failed or status
end
