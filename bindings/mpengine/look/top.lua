--- mpengine top: a program, live. What changes is read from shared memory and /proc, so the program is
--- not disturbed; only looking into a process asks it. Plain escape codes, which every terminal has.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local dump = require "mpengine.look.dump"
local proc = require "mpengine.look.proc"
local text = require "mpengine.look.text"

local top = {}

local PERIOD <const> = 1       -- seconds between two frames
local MANY <const> = 20000     -- objects: with more, only those that are held or waited for are shown
local COLUMNS <const>, LINES <const> = 80, 24 -- of a terminal that does not say

-- ---- measuring ----

local STATES <const> = { T = "stopped", t = "stopped", R = "running" } -- in C: it sleeps outside the engine

local function processes_of(program, before, seconds)
    local list = {}
    for _, seen in ipairs(program.processes) do
        local kernel = proc.state(seen.pid)
        if kernel then
            local old = before and before.cpu[seen.pid]
            list[#list + 1] = {
                pid = seen.pid, slot = seen.slot, name = seen.name, tasks = seen.tasks, memory = kernel.memory,
                state = STATES[kernel.letter] or seen.sleeps and "waiting" or "in C", cpu = kernel.cpu,
                share = old and math.max(0, (kernel.cpu - old) / seconds * 100) or 0,
            }
        end
    end
    return list
end

local function rate(now, before, seconds) return before and ((now - before) & 0xffffffff) / seconds or 0 end

local function state_of_object(o)
    if o.kind:find "Queue" then
        return o.bound > 0 and ("%d of %d items"):format(o.depth, o.bound) or ("%d items"):format(o.depth)
    elseif o.kind:find "Semaphore" then
        return ("%d permits"):format(o.depth)
    elseif o.kind == "Event" then
        return o.is_set and "set" or "not set"
    end
    return o.owner and "held" or ""
end

local function objects_of(program, before, seconds)
    local list = {}
    for _, o in ipairs(program.view:objects(program.info.objects <= MANY)) do
        local waiting, is_queue = #(o.waiting or {}), o.kind:find "Queue" ~= nil
        if waiting > 0 or o.owner or is_queue then
            local old = before and before.moves[o.handle]
            local holder = o.owner and program:process_of(o.owner)
            o.name = o.name and core.escaped(o.name)
            list[#list + 1] = {
                handle = o.handle, title = dump.title(o) .. (o.name and "" or o.place and " " .. o.place or ""),
                state = state_of_object(o) .. (holder and " by " .. core.escaped(holder.name) or ""), waiting = waiting,
                puts = o.puts, gets = o.gets, is_queue = is_queue, depth = is_queue and o.depth or 0,
                put_rate = rate(o.puts, old and old[1], seconds), get_rate = rate(o.gets, old and old[2], seconds),
            }
        end
    end
    return list
end

local function pools_of(program)
    local list = {}
    for _, pool in ipairs(program.view:pools()) do
        local busy, items = 0, 0
        for _, worker in ipairs(pool.workers) do
            busy, items = busy + (worker.runs and 1 or 0), items + worker.items
        end
        list[#list + 1] = ("pool %s: %d workers, %d busy, %d items done"):format(
            pool.name and "'" .. core.escaped(pool.name) .. "'" or pool.place or "?", #pool.workers, busy, items)
    end
    return list
end

--- What a frame shows; rates are those since before, an earlier result.
local function measure(program, before)
    program:refresh()
    local now = core.now()
    local seconds = before and math.max(now - before.at, 1e-3) or 1
    local self = { at = now, cpu = {}, moves = {}, pools = pools_of(program) }
    self.processes = processes_of(program, before, seconds)
    self.objects = objects_of(program, before, seconds)
    for _, p in ipairs(self.processes) do self.cpu[p.pid] = p.cpu end
    for _, o in ipairs(self.objects) do self.moves[o.handle] = { o.puts, o.gets } end
    return self
end

-- ---- frames ----

local SORTS <const> = {
    c = { "CPU", function(a, b) return a.share > b.share end },
    m = { "memory", function(a, b) return a.memory > b.memory end },
    t = { "tasks", function(a, b) return a.tasks > b.tasks end },
    n = { "name", function(a, b) return a.name < b.name end },
    p = { "pid", function(a, b) return a.pid < b.pid end },
}

local function sort(list, less)
    for i, item in ipairs(list) do item.place = i end
    table.sort(list, function(a, b)
        if less(a, b) then return true end
        return not less(b, a) and a.place < b.place
    end)
end

--- Objects that are waited for and those that move come first.
local function by_interest(a, b)
    local x = a.waiting * 1e6 + a.put_rate + a.get_rate + a.depth
    return x > b.waiting * 1e6 + b.put_rate + b.get_rate + b.depth
end

local function head_of(program, seen)
    local info, share = program.info, 0
    for _, p in ipairs(seen.processes) do share = share + p.share end
    return ("program %d: %s, %d processes, %d tasks, %d objects, %s shared, CPU %.0f %%, up %s"):format(program.pid,
        core.escaped(program.script), #seen.processes, info.tasks, info.objects, text.bytes(info.committed), share,
        text.time(core.wall_time() - info.created))
end

local function process_row(p)
    return ("%7d  %-18s %-8s %5.0f  %9s  %6d"):format(p.pid, core.escaped(p.name):sub(1, 18), p.state, p.share,
        text.bytes(p.memory), p.tasks)
end

local function object_row(o)
    local moves = o.is_queue and ("%8.0f %8.0f"):format(o.put_rate, o.get_rate) or (" "):rep(17)
    return ("%-28s %-22s %4d %s"):format(o.title:sub(1, 28), o.state:sub(1, 22), o.waiting, moves)
end

--- The lines of the overview: a list, and the one that is chosen.
local function overview(ui, seen, lines)
    local out = { head_of(ui.program, seen) }
    sort(seen.processes, SORTS[ui.sort][2])
    sort(seen.objects, by_interest)
    for _, line in ipairs(seen.pools) do out[#out + 1] = line end
    local room = math.max(3, lines and lines - #out - 4 or math.huge)
    local shown = math.min(#seen.processes, math.max(2, math.ceil(room / 2), room - #seen.objects))
    ui.chosen = math.max(1, math.min(ui.chosen, #seen.processes))
    local first = lines and math.max(1, math.min(ui.chosen - shown // 2, #seen.processes - shown + 1)) or 1
    out[#out + 1] = ("%7s  %-18s %-8s %5s  %9s  %6s   by %s"):format("PID", "PROCESS", "STATE", "CPU %", "MEMORY",
        "TASKS", SORTS[ui.sort][1])
    local mark
    for i = first, math.min(#seen.processes, first + shown - 1) do
        out[#out + 1] = process_row(seen.processes[i])
        if i == ui.chosen then mark = #out end
    end
    out[#out + 1] = ("%-28s %-22s %4s %8s %8s"):format("OBJECT", "STATE", "WAIT", "PUTS/s", "GETS/s")
    for _, o in ipairs(seen.objects) do out[#out + 1] = object_row(o) end
    return out, mark
end

--- The lines of a dump: of the process that is looked into, or of all.
local function inside(ui)
    local list = {}
    for line in (ui.inside .. "\n"):gmatch("([^\n]*)\n") do list[#list + 1] = line end
    return list
end

local HELP <const> = {
    overview = "q quit  arrows choose  enter look into  d dump  sort: c CPU m memory t tasks n name p pid",
    inside = "q quit  arrows, space scroll  enter, b back",
}

-- ---- the terminal ----

local function write(bytes)
    local at = 0
    while at < #bytes do
        local last, why = core.fd_write(1, bytes, at + 1)
        if why == "again" then core.wait_fd(1, "w") elseif not last then return false end
        at = last or at
    end
    return true
end

local function draw(ui)
    local lines, columns = core.terminal_size(1)
    columns, lines = columns or COLUMNS, lines or LINES
    local list, mark
    if ui.inside then
        list = inside(ui)
        ui.scroll = math.max(0, math.min(ui.scroll, #list - (lines - 1)))
        list = table.move(list, ui.scroll + 1, #list, 1, {})
    else
        list, mark = overview(ui, ui.seen, lines)
    end
    local out = { "\27[H" }
    for i = 1, lines - 1 do
        local line = (list[i] or ""):sub(1, columns)
        out[#out + 1] = (i == mark and "\27[7m%s\27[0m\27[K\r\n" or "%s\27[K\r\n"):format(line)
    end
    out[#out + 1] = ("\27[2m%s\27[0m\27[K"):format((ui.inside and HELP.inside or HELP.overview):sub(1, columns - 1))
    write(table.concat(out))
end

local function look_into(ui, whole)
    local found = dump.of(ui.program)
    local process = not whole and ui.seen.processes[ui.chosen]
    if process then
        for i = #found.processes, 1, -1 do
            if found.processes[i].pid ~= process.pid then table.remove(found.processes, i) end
        end
    end
    ui.inside, ui.scroll = text.dump(found), 0
end

local KEYS <const> = { ["\27[A"] = "up", ["\27[B"] = "down", ["\27OA"] = "up", ["\27OB"] = "down", k = "up", j = "down",
    ["\27[5~"] = "page_up", ["\27[6~"] = "page_down", [" "] = "page_down", ["\r"] = "enter", ["\n"] = "enter" }

--- The keys in what was read, one by one.
local function keys_in(bytes)
    local list, at = {}, 1
    while at <= #bytes do
        local key = bytes:match("^\27[%[O][%d;]*[%a~]", at) or bytes:sub(at, at)
        list[#list + 1], at = KEYS[key] or key, at + #key
    end
    return list
end

local function press_inside(ui, key)
    local lines = core.terminal_size(1)
    local page = (lines or LINES) - 2
    local by = ({ up = -1, down = 1, page_up = -page, page_down = page })[key]
    if by then ui.scroll = ui.scroll + by end
    if key == "enter" or key == "b" or key == "\27" then ui.inside = nil end
end

local function press(ui, key)
    if key == "q" then
        ui.ended = true
    elseif ui.inside then
        press_inside(ui, key)
    elseif key == "up" or key == "down" then
        ui.chosen = ui.chosen + (key == "up" and -1 or 1)
    elseif key == "enter" or key == "d" then
        look_into(ui, key == "d")
    elseif SORTS[key] then
        ui.sort = key
    end
end

local function read_keys(ui, seconds)
    if not core.wait_fd(0, "r", seconds) then return end
    local bytes, why = core.fd_read(0, 64)
    if bytes == "" or not bytes and why ~= "again" then ui.ended = true end
    for _, key in ipairs(keys_in(bytes or "")) do press(ui, key) end
end

local function live(ui)
    local signal = require("mpengine.signal").signal
    signal("WINCH", function() draw(ui) end)
    local due = core.now() + PERIOD
    while not ui.ended do
        draw(ui)
        read_keys(ui, math.max(0, due - core.now()))
        if core.now() >= due then
            ui.seen = measure(ui.program, ui.seen)
            if #ui.seen.processes == 0 then return ("the program with pid %d has ended"):format(ui.program.pid) end
            due = core.now() + PERIOD
        end
    end
end

local ENTER <const>, LEAVE <const> = "\27[?1049h\27[?25l\27[2J", "\27[?25h\27[?1049l"

--- Shows a program until q is pressed, or it ends: nil, or a message. Without a terminal, one frame.
---@param program mpengine.look.Program
---@return string? message
---@return string? frame
function top.of(program)
    local ui = { program = program, sort = "c", chosen = 1, scroll = 0, seen = measure(program) }
    if not (core.isatty(0) and core.isatty(1)) then
        core.sleep(PERIOD)
        local seen = measure(program, ui.seen)
        if #seen.processes == 0 then return ("the program with pid %d has ended"):format(program.pid) end
        return nil, table.concat((overview(ui, seen)), "\n") .. "\n"
    end
    core.terminal_keys(true)
    write(ENTER)
    local ok, message = pcall(live, ui)
    write(LEAVE)
    core.terminal_keys(false)
    if not ok then error(message, 0) end
    return message
end

return top
