--- The commands that look into programs: mpengine ps, mpengine dump. A refusal is one line on
--- standard error, with nothing on standard output, and status 1; a wrong option is status 2.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local look = require "mpengine.look"
local text = require "mpengine.look.text"

local command = {}

local function refuse(name, message, code)
    core.write_error(("mpengine %s: %s\n"):format(name, message))
    return code or 1
end

--- Writes all of it, and says when that cannot be done.
local function output(name, bytes)
    local at = 0
    while at < #bytes do
        local last, why = core.fd_write(1, bytes, at + 1)
        if why == "again" then
            core.wait_fd(1, "w")
        elseif not last then
            return refuse(name, "cannot write: " .. why)
        end
        at = last or at
    end
    return 0
end

local function list_of(programs)
    for _, program in ipairs(programs) do program:refresh() end
    return text.programs(programs)
end

--- The program of a pid, or the only one; or nil and the exit status.
local function choose(name, pid)
    if pid then
        local program, why = look.program(pid)
        if not program then return nil, refuse(name, why) end
        return program
    end
    local programs, unreadable = look.programs()
    if #programs == 1 then return programs[1] end
    if #programs == 0 then
        if #unreadable > 0 then
            return nil, refuse(name, ("the program with pid %d runs another version of mpengine"):format(unreadable[1]))
        end
        return nil, refuse(name, "no program runs")
    end
    output(name, list_of(programs))
    return nil, refuse(name, "several programs run: give the pid of one", 2)
end

--- Options and a pid: { json =, pid = }; or nil and the exit status.
local function parse(name, argv, known)
    local options = {}
    for _, word in ipairs(argv) do
        if known[word] then
            options[known[word]] = true
        elseif word:sub(1, 1) == "-" then
            return nil, refuse(name, ("unrecognized option '%s'\n%s"):format(word, command.usage[name]), 2)
        elseif options.pid then
            return nil, refuse(name, "more than one pid\n" .. command.usage[name], 2)
        else
            options.pid = math.tointeger(tonumber(word))
            if not options.pid or options.pid < 1 then
                return nil, refuse(name, ("'%s' is no pid"):format(core.escaped(word)))
            end
        end
    end
    return options
end

command.usage = {
    ps = "usage: mpengine ps",
    dump = "usage: mpengine dump [PID] [--json]",
}

function command.ps(argv)
    local options, code = parse("ps", argv, { ["--help"] = "help", ["-h"] = "help" })
    if not options then return code end
    if options.help then return output("ps", command.usage.ps .. "\n") end
    if options.pid then return refuse("ps", "takes no pid\n" .. command.usage.ps, 2) end
    local programs, unreadable = look.programs()
    return output("ps", text.programs(programs, unreadable))
end

function command.dump(argv)
    local options, code = parse("dump", argv, { ["--help"] = "help", ["-h"] = "help", ["--json"] = "json" })
    if not options then return code end
    if options.help then return output("dump", command.usage.dump .. "\n") end
    local program, status = choose("dump", options.pid)
    if not program then return status end
    local dump = require("mpengine.look.dump").of(program)
    if #dump.processes == 0 then return refuse("dump", ("the program with pid %d has ended"):format(program.pid)) end
    return output("dump", options.json and require("mpengine.look.json")(dump) or text.dump(dump))
end

--- Runs a command: its exit status.
function command.run(name, argv)
    core.hide_reader()
    return command[name](argv)
end

return command
