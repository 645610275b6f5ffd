--- mpengine top: a program, live. What changes is read from shared memory and /proc, so the program is
--- not disturbed; only looking into a process asks it. Plain escape codes, which every terminal has.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local dump = require "mpengine.look.dump"
local proc = require "mpengine.look.proc"
local screen = require "mpengine.look.screen"
local text = require "mpengine.look.text"

local top = {}

local PERIOD <const> = 1       -- seconds between two frames
local MANY <const> = 20000     -- objects: with more, only those that are held or waited for are shown
local COLUMNS <const>, LINES <const> = 80, 24 -- of a terminal that does not say
local TALL <const> = 16        -- lines of a screen on which no line need be cut
local SIGSTOP <const> = 19

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
    return ("program %d: %s, %s, %s, %s, %s shared, CPU %.0f %%, up %s"):format(program.pid,
        core.escaped(program.script), text.plural(#seen.processes, "process", "processes"),
        text.plural(info.tasks, "task"), text.plural(info.objects, "object"), text.bytes(info.committed), share,
        text.time(core.wall_time() - info.created))
end

local function process_row(p)
    return ("%7d  %s %-8s %5.0f  %9s  %6d"):format(p.pid, screen.fit(core.escaped(p.name), 18), p.state, p.share,
        text.bytes(p.memory), p.tasks)
end

local function object_row(o)
    local moves = o.is_queue and ("%8.0f %8.0f"):format(o.put_rate, o.get_rate) or (" "):rep(17)
    return ("%s %s %4d %s"):format(screen.fit(o.title, 28), screen.fit(o.state, 22), o.waiting, moves)
end

local PROCESSES <const> = {
    key = "pid", row = process_row,
    head = function(part, sort_name)
        return ("%7s  %-18s %-8s %5s  %9s  %6s   by %s"):format("PID", "PROCESS" .. part, "STATE", "CPU %", "MEMORY",
            "TASKS", sort_name)
    end,
}
local OBJECTS <const> = {
    key = "handle", row = object_row,
    head = function(part)
        return ("%-28s %-22s %4s %8s %8s"):format("OBJECT" .. part, "STATE", "WAIT", "PUTS/s", "GETS/s")
    end,
}

--- The place of what is chosen in a list: it stays chosen wherever it is moved.
local function place_of(ui, kind, list)
    local chosen = ui.chosen[kind]
    for i, item in ipairs(list) do
        if item[kind.key] == chosen.key then chosen.at = i end
    end
    chosen.at = math.max(1, math.min(chosen.at, #list))
    chosen.key = list[chosen.at] and list[chosen.at][kind.key]
    return chosen.at
end

--- Adds so many lines of a list, those around the chosen one, and says which they are when there are more.
local function add_list(ui, out, kind, list, shown)
    local at = place_of(ui, kind, list)
    local first = math.max(1, math.min(at - shown // 2, #list - shown + 1))
    local last = math.min(#list, first + shown - 1)
    local part = last - first + 1 < #list and (" %d-%d/%d"):format(first, last, #list) or ""
    out[#out + 1] = kind.head(part, SORTS[ui.sort][1])
    for i = first, last do
        out[#out + 1] = kind.row(list[i])
        if i == at and ui.kind == kind then ui.mark = #out end
    end
    ui.page[kind] = math.max(1, shown - 1)
end

local POOLS <const> = 3 -- lines of them on a screen

local function add_pools(out, pools, most)
    for i = 1, math.min(#pools, most) do out[#out + 1] = pools[i] end
    if #pools > most then out[#out] = ("%s, and %d more pools"):format(out[#out], #pools - most) end
end

--- One line of what is above or below the lists; on a screen with room, as many as it needs.
local function fitted(line, lines, columns)
    return lines and lines >= TALL and screen.wrap(line, columns - 1, "  ") or { line }
end

--- The lines of the overview, on a screen of so many lines or all of them. ui.mark is the one that is chosen.
local function overview(ui, seen, lines, columns)
    local out = fitted(head_of(ui.program, seen), lines, columns)
    sort(seen.processes, SORTS[ui.sort][2])
    sort(seen.objects, by_interest)
    add_pools(out, seen.pools, lines and POOLS or math.huge)
    local room = lines and math.max(2, lines - #out - 2) or math.maxinteger
    local shown = math.max(math.min(#seen.processes, room - 1, math.max(room // 2, room - #seen.objects)), 1)
    ui.mark = nil
    add_list(ui, out, PROCESSES, seen.processes, shown)
    add_list(ui, out, OBJECTS, seen.objects, room - shown)
    return out
end

--- The lines of a dump: of the process that is looked into, or of all.
local function inside(ui, columns)
    if ui.inside.columns == columns then return ui.inside.lines end
    local list = {}
    for line in (ui.inside.text .. "\n"):gmatch("([^\n]*)\n") do
        local lead = line:match "^ *" .. "  "
        local parts = screen.wrap(line, columns, #lead * 2 < columns and lead or "")
        table.move(parts, 1, #parts, #list + 1, list)
    end
    ui.inside.columns, ui.inside.lines = columns, list
    return list
end

local HELP <const> = {
    overview = "q quit  arrows, j, k, PgUp, PgDn move  Tab other list  Enter look into  d dump  "
        .. "sort: c CPU m memory t tasks n name p pid",
    inside = "q quit  arrows, j, k, PgUp, PgDn, space scroll  Enter, b back",
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
    local help = fitted(ui.inside and HELP.inside or HELP.overview, lines, columns)
    local rows, list = lines - #help
    if ui.inside then
        list, ui.mark = inside(ui, columns), nil
        ui.page.inside = math.max(1, rows - 1)
        ui.scroll = math.max(0, math.min(ui.scroll, #list - rows))
        list = table.move(list, ui.scroll + 1, ui.scroll + rows, 1, {})
    else
        list = overview(ui, ui.seen, rows, columns)
    end
    local out = { "\27[H" }
    for i = 1, rows do
        local line = screen.cut(list[i] or "", columns)
        out[#out + 1] = (i == ui.mark and "\27[7m%s\27[0m\27[K\r\n" or "%s\27[K\r\n"):format(line)
    end
    for i, line in ipairs(help) do
        out[#out + 1] = ("\27[2m%s\27[0m\27[K%s"):format(line:sub(1, columns - 1), help[i + 1] and "\r\n" or "")
    end
    write(table.concat(out))
end

local function look_into(ui, whole)
    local found = dump.of(ui.program)
    local process = not whole and ui.seen.processes[ui.chosen[PROCESSES].at]
    if process then
        for i = #found.processes, 1, -1 do
            if found.processes[i].pid ~= process.pid then table.remove(found.processes, i) end
        end
    end
    ui.inside, ui.scroll = { text = text.dump(found) }, 0
end

local KEYS <const> = {
    ["\27[A"] = "up", ["\27[B"] = "down", ["\27OA"] = "up", ["\27OB"] = "down", k = "up", j = "down",
    ["\27[5~"] = "page_up", ["\27[6~"] = "page_down", [" "] = "page_down", ["\r"] = "enter", ["\n"] = "enter",
    ["\27[H"] = "home", ["\27OH"] = "home", ["\27[1~"] = "home", g = "home", ["\27[F"] = "last", ["\27OF"] = "last",
    ["\27[4~"] = "last", G = "last", ["\t"] = "tab",
}

--- The keys in what was read, one by one.
local function keys_in(bytes)
    local list, at = {}, 1
    while at <= #bytes do
        local key = bytes:match("^\27[%[O][%d;]*[%a~]", at) or bytes:sub(at, at)
        list[#list + 1], at = KEYS[key] or key, at + #key
    end
    return list
end

--- By how much a key moves, in a list that shows a page at a time; nil: it does not.
local function step_of(key, page)
    return ({ up = -1, down = 1, page_up = -page, page_down = page, home = -math.maxinteger // 2,
        last = math.maxinteger // 2 })[key]
end

local function press_inside(ui, key)
    local by = step_of(key, ui.page.inside)
    if by then ui.scroll = ui.scroll + by end
    if key == "enter" or key == "b" or key == "\27" then ui.inside = nil end
end

local function move(ui, by)
    local chosen = ui.chosen[ui.kind]
    chosen.at, chosen.key = math.max(1, chosen.at + by), nil
end

local function press(ui, key)
    if key == "q" then
        ui.ended = true
    elseif ui.inside then
        press_inside(ui, key)
    elseif step_of(key, 1) then
        move(ui, step_of(key, ui.page[ui.kind]))
    elseif key == "tab" then
        ui.kind = ui.kind == PROCESSES and OBJECTS or PROCESSES
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

local function ended_text(program) return ("the program with pid %d has ended"):format(program.pid) end

local ENTER <const>, LEAVE <const> = "\27[?1049h\27[?25l\27[2J", "\27[?25h\27[?1049l"

local function enter()
    core.terminal_keys(true)
    write(ENTER)
end

local function leave()
    write(LEAVE)
    core.terminal_keys(false)
end

--- A shell that stops a program, or lets it go on, may have other settings of the terminal.
local function live(ui)
    local signal = require("mpengine.signal").signal
    signal("WINCH", function() draw(ui) end)
    signal("TSTP", function()
        leave()
        core.kill_pid(core.pid(), SIGSTOP)
    end)
    signal("CONT", function()
        core.terminal_keys(false)
        enter()
        draw(ui)
    end)
    local due, left = core.now() + ui.interval, ui.count
    while not ui.ended do
        draw(ui)
        read_keys(ui, math.max(0, due - core.now()))
        if core.now() >= due then
            left = left - 1
            if left == 0 then return nil end
            ui.seen = measure(ui.program, ui.seen)
            if #ui.seen.processes == 0 then return ended_text(ui.program) end
            due = core.now() + ui.interval
        end
    end
end

--- Frames as plain lines, each over an interval.
local function print_frames(ui, output)
    for i = 1, ui.count do
        core.sleep(ui.interval)
        ui.seen = measure(ui.program, ui.seen)
        if #ui.seen.processes == 0 then return ended_text(ui.program) end
        if not output((i > 1 and "\n" or "") .. table.concat(overview(ui, ui.seen), "\n") .. "\n") then return nil end
    end
end

local function has_screen()
    local term = os.getenv "TERM"
    return core.isatty(0) and core.isatty(1) and term and term ~= "" and term ~= "dumb"
end

--- Shows a program until q is pressed, or it ends: nil, or a message. Without a terminal, frames as plain
--- lines, by output(text) -> could it be written?
---@param program mpengine.look.Program
---@param opts { interval?: number, count?: integer }  seconds between frames, 1; how many: any, or 1 without a terminal
---@param output fun(text: string): boolean
---@return string? message
function top.of(program, opts, output)
    local is_screen = has_screen()
    local ui = {
        program = program, sort = "c", kind = PROCESSES, scroll = 0, seen = measure(program),
        chosen = { [PROCESSES] = { at = 1 }, [OBJECTS] = { at = 1 } },
        page = { [PROCESSES] = 1, [OBJECTS] = 1, inside = 1 },
        interval = opts.interval or PERIOD, count = opts.count or is_screen and math.huge or 1,
    }
    if not is_screen then return print_frames(ui, output) end
    enter()
    local ok, message = pcall(live, ui)
    leave()
    if not ok then error(message, 0) end
    return message
end

return top
