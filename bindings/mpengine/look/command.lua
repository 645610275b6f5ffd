--- The commands that look into programs: mpengine ps, dump, profile, trace. A refusal is one line on
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
    if not programs then return nil, refuse(name, unreadable) end
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

--- The value of an option that has one: in the same word or the next; and its place.
local function value_of(argv, i)
    local name, value = argv[i]:match("^(%-%-[%w-]+)=(.*)$")
    if name then return name, value, i end
    return argv[i], argv[i + 1], i + 1
end

local SECONDS <const> = 5
local SECONDS_MAX <const> = 1e6

local function seconds_of(word)
    local seconds = tonumber(word)
    return seconds and seconds > 0 and seconds <= SECONDS_MAX and seconds or nil
end

-- Of top: the field, how its text is read, what is expected.
local NUMBERS <const> = {
    { "interval", function(word) return seconds_of(word) and math.max(seconds_of(word), 0.1) end,
        "--interval expects a number of seconds above 0" },
    { "count", function(word)
        local n = math.tointeger(tonumber(word))
        return n and n > 0 and n or nil
    end, "-n expects a number of frames" },
}

--- Options and a pid: { json =, pid = }; or nil and the exit status. Known options are a name, or for
--- those with a value { name }.
local function parse(name, argv, known)
    local options, i = {}, 1
    local function usage(message) return nil, refuse(name, message .. "\n" .. command.usage[name], 2) end
    while argv[i] do
        local word = argv[i]
        local option = known[word] or known[word:match("^(%-%-[%w-]+)=") or ""]
        if type(option) == "table" then
            local value
            word, value, i = value_of(argv, i)
            if not value or value == "" then return usage(("'%s' needs an argument"):format(word)) end
            options[option[1]] = value
        elseif option and known[word] then
            options[option] = true
        elseif word:sub(1, 1) == "-" then
            return usage(("unrecognized option '%s'"):format(core.escaped(word)))
        elseif options.pid then
            return usage "more than one pid"
        else
            options.pid = word:find "^%d+ *$" and math.tointeger(tonumber(word))
            if not options.pid or options.pid < 1 then
                return nil, refuse(name, ("'%s' is no pid"):format(core.escaped(word)))
            end
        end
        i = i + 1
    end
    if options.seconds and not seconds_of(options.seconds) then
        return usage(("--seconds expects a number above 0, not '%s'"):format(core.escaped(options.seconds)))
    end
    options.seconds = seconds_of(options.seconds) or SECONDS
    for _, field in ipairs(NUMBERS) do
        local key, read, expected = table.unpack(field)
        local given = options[key]
        options[key] = given and read(given)
        if given and not options[key] then return usage(("%s, not '%s'"):format(expected, core.escaped(given))) end
    end
    return options
end

--- The form of the file that -o names, by the end of its name; or nil and the exit status.
local function form_of(name, path, forms)
    local form = path and forms[path:match("%.(%w+)$")]
    if form then return form end
    local message = path and ("'%s' is no name of an output"):format(core.escaped(path)) or "-o is missing"
    return nil, refuse(name, message .. "\n" .. command.usage[name], 2)
end

local ENOENT <const> = 2

--- A file that can be written. What it has stays until there is something to replace it: { path, file, is_new }; or
--- nil and the exit status.
local function open_output(name, path)
    local file, why, number = io.open(path, "r+b")
    local is_new = number == ENOENT
    if not file then file, why = io.open(path, "ab") end
    if not file then return nil, refuse(name, "cannot write: " .. core.escaped(why)) end
    return { path = path, file = file, is_new = is_new }
end

--- There is nothing to write.
local function drop_output(out)
    out.file:close()
    if out.is_new then os.remove(out.path) end
end

--- Writes the file, and says when that cannot be done.
local function finish_output(name, out, bytes)
    local file, why = io.open(out.path, "wb")
    if not file then return refuse(name, "cannot write: " .. core.escaped(why)) end
    out.file:close() -- only now: the reader of a pipe gets no end in between
    local ok
    ok, why = file:write(bytes)
    if ok then ok, why = file:close() end
    if ok then return 0 end
    return refuse(name, ("cannot write: %s: %s"):format(core.escaped(out.path), why))
end

command.usage = {
    ps = "usage: mpengine ps",
    dump = "usage: mpengine dump [PID] [--json]",
    top = "usage: mpengine top [--interval S] [-n N] [PID]\n"
        .. "       mpengine top [--interval S] [-n N] [--namespace NAME] [--ca FILE] URL",
    trace = "usage: mpengine trace [PID] -o FILE.html|FILE.json [--seconds S]",
    ["--trace"] = "usage: mpengine --trace=FILE.json|FILE.html script.lua [args]",
    profile = "usage: mpengine profile [PID] -o FILE.svg|FILE.folded [--seconds S]",
}

local PID_TEXT <const> = "PID is that of any process of the program; without it the only program that runs is shown.\n"

--- What --help says of each, behind its usage.
local ABOUT <const> = {
    ps = "Lists the programs of this user: the pid of the first process, processes, tasks, objects, shared memory,\n"
        .. "since when, the script.\n",
    dump = "Shows the processes and tasks of a program, with stacks, and what each waits for and holds. Lines that\n"
        .. "begin with ! come first: what looks wrong, such as tasks that wait for each other.\n" .. PID_TEXT
        .. "  --json               one JSON object, for other programs\n",
    top = "Shows the processes and objects of a program, live; q ends it, and the last line names the other keys.\n"
        .. "With a URL: the queues and workers of a namespace of a Redis server. Without a terminal: one frame.\n"
        .. PID_TEXT
        .. "  --interval S         seconds between frames (1)\n"
        .. "  -n N                 how many frames\n"
        .. "  --namespace NAME     with a URL: of the manager (default)\n"
        .. "  --ca FILE            with a URL: certificates, for rediss://\n",
    trace = "Records when tasks run and what they wait for, and writes a page with a time line, or trace events as\n"
        .. "Perfetto and Chrome read them. mpengine --trace=FILE script.lua traces a script from its first line.\n"
        .. PID_TEXT
        .. "  -o FILE              what is written, by the end of its name: .html, .json\n"
        .. "  --seconds S          for how long (5)\n",
    profile = "Asks each process a hundred times a second what it does, and writes a flame graph, or folded stacks.\n"
        .. PID_TEXT
        .. "  -o FILE              what is written, by the end of its name: .svg, .folded\n"
        .. "  --seconds S          for how long (5)\n",
}

local function show_help(name)
    return output(name, command.usage[name] .. "\n" .. ABOUT[name] .. "  -h, --help           show this text\n")
end

function command.ps(argv)
    local options, code = parse("ps", argv, { ["--help"] = "help", ["-h"] = "help" })
    if not options then return code end
    if options.help then return show_help "ps" end
    if options.pid then return refuse("ps", "takes no pid\n" .. command.usage.ps, 2) end
    local programs, unreadable = look.programs()
    if not programs then return refuse("ps", unreadable) end
    return output("ps", text.programs(programs, unreadable))
end

function command.dump(argv)
    local options, code = parse("dump", argv, { ["--help"] = "help", ["-h"] = "help", ["--json"] = "json" })
    if not options then return code end
    if options.help then return show_help "dump" end
    local program, status = choose("dump", options.pid)
    if not program then return status end
    local dump = require "mpengine.look.dump"
    local found = dump.of(program)
    if #found.processes == 0 then return refuse("dump", ("the program with pid %d has ended"):format(program.pid)) end
    return output("dump", options.json and require("mpengine.look.json")(dump.spread(found)) or text.dump(found))
end

local OUTPUT <const> = {
    ["--help"] = "help", ["-h"] = "help", ["-o"] = { "output" }, ["--output"] = { "output" },
    ["--seconds"] = { "seconds" },
}

--- A help, or the program and the file for what is found: { program, file, form, options }; or nil
--- and the exit status.
local function begin(name, argv, forms)
    local options, code = parse(name, argv, OUTPUT)
    if not options then return nil, code end
    if options.help then return nil, show_help(name) end
    local form, wrong = form_of(name, options.output, forms)
    if not form then return nil, wrong end
    local program, status = choose(name, options.pid)
    if not program then return nil, status end
    local out, closed = open_output(name, options.output)
    if not out then return nil, closed end
    return { program = program, output = out, form = form, options = options }
end

function command.profile(argv)
    local begun, status = begin("profile", argv, { folded = "folded", txt = "folded", svg = "svg" })
    if not begun then return status end
    local profile = require "mpengine.look.profile"
    local found = profile.of(begun.program, begun.options.seconds)
    if found.samples == 0 then
        drop_output(begun.output)
        return refuse("profile", ("the program with pid %d has ended"):format(begun.program.pid))
    end
    local bytes = begun.form == "svg" and require("mpengine.look.flame")(found) or profile.folded(found)
    return finish_output("profile", begun.output, bytes)
end

--- The terminal is left as it was, whatever ends it.
function command.top(argv)
    local options, code = parse("top", argv, {
        ["--help"] = "help", ["-h"] = "help", ["--interval"] = { "interval" }, ["-n"] = { "count" },
    })
    if not options then return code end
    if options.help then return show_help "top" end
    local program, status = choose("top", options.pid)
    if not program then return status end
    local written = 0
    local message = require("mpengine.look.top").of(program, options, function(frame)
        written = output("top", frame)
        return written == 0
    end)
    if message then return refuse("top", message) end
    return written
end

command.refuse = refuse

local TRACE_FORMS <const> = { json = "json", html = "html" }

--- Writes what was traced; what was lost is said.
local function write_trace(name, out, form, found)
    local bytes, dropped = require "mpengine.look.events"(found)
    if form == "html" then bytes = require "mpengine.look.page"(bytes) end
    if dropped > 0 then
        refuse(name, ("%d events were dropped: a ring was full, or the file"):format(dropped))
    end
    if found.paused > 0 then
        refuse(name, ("paused for %.3g of %.3g s: the program notes too many events"):format(found.paused,
            found.to - found.from))
    end
    return finish_output(name, out, bytes)
end

function command.trace(argv)
    local begun, status = begin("trace", argv, TRACE_FORMS)
    if not begun then return status end
    local tracer, why = core.tracer()
    local found
    if tracer then found, why = require("mpengine.look.trace").of(begun.program, tracer, begun.options.seconds) end
    if not found then
        drop_output(begun.output)
        return refuse("trace", why)
    end
    return write_trace("trace", begun.output, begun.form, found)
end

--- For mpengine --trace=path: a function that writes what was found, and one for when that is nothing; or nil and
--- the exit status.
function command.trace_output(path)
    local form, wrong = form_of("--trace", path, TRACE_FORMS)
    if not form then return nil, wrong end
    local out, closed = open_output("--trace", path)
    if not out then return nil, closed end
    return function(found) return write_trace("--trace", out, form, found) end, function() drop_output(out) end
end

--- Runs a command: its exit status.
function command.run(name, argv)
    core.hide_reader()
    return command[name](argv)
end

return command
