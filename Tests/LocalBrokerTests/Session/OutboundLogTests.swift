import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("What is on its way to one client")
struct OutboundLogTests {
    private func log(_ payloads: [String], qos: QoS = .atLeastOnce) -> OutboundLog {
        var log = OutboundLog()
        for payload in payloads {
            withMessage(payload: payload) { log.append($0, qos: qos, retain: false, subscriptionIdentifier: 0) }
        }
        return log
    }

    private func send(_ log: inout OutboundLog, window: Int = 100) -> [(id: UInt16, payload: String)] {
        var sent: [(id: UInt16, payload: String)] = []
        while log.canSend(window: window) {
            log.sendNext { entry, record in
                sent.append((entry.packetID, MessageRecord.read(record)?.payloadText ?? "unreadable"))
                return true
            }
        }
        return sent
    }

    @Test("messages are sent in order with identifiers in sequence")
    func order() {
        var log = self.log(["1", "2", "3"])
        let sent = self.send(&log)
        #expect(sent.map(\.payload) == ["1", "2", "3"])
        #expect(sent.map(\.id) == [1, 2, 3])
        #expect(log.waitingCount == 0)
        #expect(log.unfinishedCount == 3)
    }

    @Test("a QoS 0 message keeps its place, takes no identifier and is finished when it is sent")
    func atMostOnce() {
        var log = self.log(["1"])
        for (payload, qos) in [("2", QoS.atMostOnce), ("3", .exactlyOnce), ("4", .atMostOnce)] {
            withMessage(payload: payload) { log.append($0, qos: qos, retain: false, subscriptionIdentifier: 0) }
        }
        #expect(log.atMostOnce == 2)
        let sent = self.send(&log)
        #expect(sent.map(\.payload) == ["1", "2", "3", "4"])
        #expect(sent.map(\.id) == [1, 0, 2, 0])
        #expect(log.atMostOnce == 0 && log.unfinishedCount == 2)
        #expect(log.onAck(1) == true)
        #expect(log.onReceived(2, isError: false) == true)
        #expect(log.onComplete(2) == true)
        #expect(log.isEmpty && log.byteCount == 0)
    }

    @Test("an acknowledgement is found behind a QoS 0 message, and in front of messages that wait")
    func acknowledgedBehindAtMostOnce() {
        var log = self.log(["1"])
        for (payload, qos) in [("2", QoS.atMostOnce), ("3", .exactlyOnce), ("4", .exactlyOnce)] {
            withMessage(payload: payload) { log.append($0, qos: qos, retain: false, subscriptionIdentifier: 0) }
        }
        #expect(self.send(&log, window: 2).map(\.payload) == ["1", "2", "3"])
        #expect(log.onReceived(2, isError: false) == true)
        #expect(log.onReceived(3, isError: false) == false)
        #expect(log.onComplete(2) == true)
        #expect(log.onAck(1) == true)
        #expect(log.waitingCount == 1 && log.unfinishedCount == 0)
    }

    @Test("no more than the window are unfinished")
    func window() {
        var log = self.log(["1", "2", "3"])
        #expect(self.send(&log, window: 2).count == 2)
        #expect(log.canSend(window: 2) == false)
        #expect(log.onAck(1) == true)
        #expect(self.send(&log, window: 2).map(\.payload) == ["3"])
    }

    @Test("a stored QoS 2 message waits until it is stored, and those behind it")
    func storedThrough() {
        var log = OutboundLog()
        for (number, qos) in [(UInt64(10), QoS.atLeastOnce), (20, .exactlyOnce), (30, .atLeastOnce)] {
            withMessage(payload: "\(number)") {
                log.append($0, qos: qos, retain: false, subscriptionIdentifier: 0, storedAs: number)
            }
        }
        #expect(self.send(&log).map(\.payload) == ["10"])
        log.storedThrough = 20
        #expect(self.send(&log).map(\.id) == [2, 3])
        #expect(log.lastMessage == 30)
    }

    @Test("what becomes of stored messages is told once")
    func changes() {
        var log = OutboundLog()
        for (number, qos) in [(UInt64(10), QoS.atLeastOnce), (20, .exactlyOnce), (30, .atLeastOnce)] {
            withMessage { log.append($0, qos: qos, retain: false, subscriptionIdentifier: 0, storedAs: number) }
        }
        log.storedThrough = 30
        #expect(!log.hasChanges)
        _ = self.send(&log, window: 2)
        #expect(log.onAck(1) == true)
        #expect(log.onReceived(2, isError: false) == true)
        #expect(log.onComplete(2) == true)
        #expect(log.dropOldestWaiting() == true)
        let changes = log.takeChanges().map { change in
            switch change {
            case .finished(let message): "finished \(message)"
            case .received(let entry): "received \(entry.message)"
            }
        }
        #expect(changes == ["finished 10", "received 20", "finished 20", "finished 30"])
        #expect(!log.hasChanges)
        #expect(log.storedMessages.isEmpty)
    }

    @Test("an identifier that came round because others were dropped is not used while it is in flight")
    func gaps() {
        var log = OutboundLog()
        withMessage { message in
            func append(_ number: UInt64) {
                log.append(message, qos: .atLeastOnce, retain: false, subscriptionIdentifier: 0, storedAs: number)
            }
            append(1)
            #expect(self.send(&log).map(\.id) == [1])
            for number in 2...65_535 {
                append(UInt64(number))
                #expect(log.dropOldestWaiting() == true)
            }
            append(65_536)
            #expect(log.canSend(window: 100) == false)
            #expect(log.onAck(1) == true)
            #expect(self.send(&log).map(\.id) == [1])
        }
    }

    @Test("acknowledgements out of order free the window, and the log once its head is done")
    func outOfOrder() {
        var log = self.log(["1", "2", "3"])
        _ = self.send(&log)
        #expect(log.onAck(3) == true)
        #expect(log.onAck(2) == true)
        #expect(log.unfinishedCount == 1)
        #expect(!log.isEmpty)
        #expect(log.onAck(1) == true)
        #expect(log.isEmpty)
        #expect(log.byteCount == 0)
    }

    @Test("an acknowledgement of nothing, or of the wrong kind, is refused")
    func wrongAcknowledgement() {
        var log = self.log(["1"])
        #expect(log.onAck(1) == false)
        _ = self.send(&log)
        #expect(log.onAck(2) == false)
        #expect(log.onReceived(1, isError: false) == false)
        #expect(log.onComplete(1) == false)
        #expect(log.onAck(1) == true)
        #expect(log.onAck(1) == false)
    }

    @Test("QoS 2 is finished by PUBREC and PUBCOMP, or by PUBREC with an error")
    func qos2() {
        var log = self.log(["1", "2"], qos: .exactlyOnce)
        _ = self.send(&log)
        #expect(log.onAck(1) == false)
        #expect(log.onComplete(1) == false)
        #expect(log.onReceived(1, isError: false) == true)
        #expect(log.onReceived(1, isError: false) == true, "a repeated PUBREC is answered again")
        #expect(log.onComplete(1) == true)
        #expect(log.onReceived(2, isError: true) == true)
        #expect(log.isEmpty)
    }

    @Test("after a reconnect all that is unfinished is handed out again in order, with its state")
    func redelivery() {
        var log = self.log(["1", "2", "3", "4"], qos: .exactlyOnce)
        _ = self.send(&log, window: 3)
        #expect(log.onReceived(1, isError: false) == true)
        #expect(log.onReceived(2, isError: true) == true)
        let again = self.sendAgain(&log)
        #expect(again.map(\.packetID) == [1, 3])
        #expect(again.map(\.state) == [.awaitingComplete, .awaitingReceived])
        #expect(log.waitingCount == 1)
    }

    private func sendAgain(_ log: inout OutboundLog, window: Int = 100) -> [OutboundLog.Entry] {
        log.onReconnect()
        return self.goOn(&log, window: window)
    }

    private func goOn(_ log: inout OutboundLog, window: Int) -> [OutboundLog.Entry] {
        var again: [OutboundLog.Entry] = []
        while log.canSendAgain(window: window) {
            log.sendNextAgain { entry, _ in
                again.append(entry)
                return true
            }
        }
        return again
    }

    @Test("a client that comes back with a smaller window is sent no more than that again, and nothing new before")
    func smallerWindow() {
        var log = self.log(["1", "2", "3", "4", "5"])
        _ = self.send(&log, window: 4)
        #expect(self.sendAgain(&log, window: 2).map(\.packetID) == [1, 2])
        #expect(log.canSend(window: 100) == false)
        #expect(log.onAck(2) == true)
        #expect(self.goOn(&log, window: 2).map(\.packetID) == [3])
        #expect(log.onAck(4) == true, "known from the earlier connection")
        #expect(log.onAck(1) == true)
        #expect(self.goOn(&log, window: 2).isEmpty)
        #expect(self.send(&log, window: 2).map(\.payload) == ["5"])
        #expect(log.unfinishedCount == 2)
    }

    @Test("what cannot be sent again is finished")
    func unsendable() {
        var log = self.log(["1", "2"])
        _ = self.send(&log)
        log.onReconnect()
        #expect(log.canSendAgain(window: 1) == true)
        log.sendNextAgain { _, _ in false }
        #expect(self.goOn(&log, window: 1).map(\.packetID) == [2])
        #expect(log.unfinishedCount == 1)
    }

    @Test("a message that is not to be sent any more leaves no trace")
    func skipped() {
        var log = self.log(["1", "2"])
        log.sendNext { _, _ in false }
        #expect(log.unfinishedCount == 0)
        #expect(self.send(&log).map(\.payload) == ["2"])
    }

    @Test("a client that never acknowledges its first message holds a bounded number of others")
    func stuckHead() {
        var log = self.log((0..<5000).map { "\($0)" })
        _ = self.send(&log, window: 10)
        var last = 10
        while true {
            for id in 2...last { _ = log.onAck(UInt16(id)) }
            let sent = self.send(&log, window: 10)
            guard let id = sent.last?.id else { break }
            last = Int(id)
        }
        #expect(last == 1024)
        #expect(log.onAck(1) == true)
        #expect(self.send(&log, window: 10).isEmpty == false)
    }

    @Test("identifiers wrap from 65535 to 1 and stay unique among the unfinished")
    func wrap() {
        var log = OutboundLog()
        var last: UInt16 = 0
        for index in 0..<70_000 {
            withMessage(payload: "x") { log.append($0, qos: .atLeastOnce, retain: false, subscriptionIdentifier: 0) }
            let sent = self.send(&log)
            #expect(sent.count == 1)
            last = sent[0].id
            #expect(last == UInt16(index % 65_535 + 1))
            #expect(log.onAck(last) == true)
        }
        #expect(log.isEmpty)
    }

    @Test("a log that another shard kept goes before what arrived meanwhile")
    func joining() {
        var old = self.log(["1", "2"])
        _ = self.send(&old, window: 1)
        let early = self.log(["3"])
        old.appendWaiting(of: early)
        #expect(self.send(&old).map(\.payload) == ["2", "3"])
    }

    @Test("dropping the oldest leaves what is in flight, and what is sent next is the next that is left")
    func dropOldest() {
        var log = self.log(["1", "2", "3", "4", "5"])
        #expect(self.send(&log, window: 1).map(\.payload) == ["1"])
        let held = log.byteCount
        #expect(log.dropOldestWaiting() == true)
        #expect(log.dropOldestWaiting() == true)
        #expect(log.waitingCount == 2)
        #expect(log.byteCount == held / 5 * 3)
        #expect(log.unfinishedCount == 1)
        #expect(log.onAck(1) == true)
        #expect(self.send(&log).map(\.payload) == ["4", "5"])
        #expect(log.onAck(2) == true)
        #expect(log.onAck(3) == true)
        #expect(log.isEmpty && log.byteCount == 0)
        #expect(log.dropOldestWaiting() == false)
    }

    @Test("a queue that drops its oldest without end behind a message in flight takes no more memory")
    func dropWithoutEnd() {
        var log = self.log(["first"])
        _ = self.send(&log)
        for number in 0..<20_000 {
            withMessage(payload: "\(number)") {
                log.append($0, qos: .atLeastOnce, retain: false, subscriptionIdentifier: 0)
            }
            if log.waitingCount > 10 { #expect(log.dropOldestWaiting() == true) }
        }
        #expect(log.reservedBytes < 16 * 1024)
        #expect(self.send(&log).map(\.payload) == (19_990..<20_000).map { "\($0)" })
        #expect(log.onAck(1) == true)
    }

    @Test("random use: what comes out is what went in, in order, and memory is given back")
    func random() {
        var generator = SeededGenerator(seed: 7)
        var log = OutboundLog()
        var next = 0
        var waiting: [Int] = []
        var unfinished: [UInt16] = []
        for _ in 0..<20_000 {
            switch Int.random(in: 0..<8, using: &generator) {
            case 0..<3:
                waiting.append(next)
                withMessage(payload: "\(next)") {
                    log.append($0, qos: .atLeastOnce, retain: false, subscriptionIdentifier: 0)
                }
                next += 1
            case 3, 4:
                guard log.canSend(window: 20) else { continue }
                let expected = waiting.removeFirst()
                log.sendNext { entry, record in
                    #expect(MessageRecord.read(record)?.payloadText == "\(expected)")
                    unfinished.append(entry.packetID)
                    return true
                }
            case 5:
                #expect(log.dropOldestWaiting() != waiting.isEmpty)
                if !waiting.isEmpty { waiting.removeFirst() }
            default:
                guard !unfinished.isEmpty else { continue }
                let index = min(Int.random(in: 0..<3, using: &generator), unfinished.count - 1)
                #expect(log.onAck(unfinished.remove(at: index)) == true)
            }
        }
        #expect(log.unfinishedCount == unfinished.count)
        #expect(log.waitingCount == waiting.count)
        for packetID in unfinished { #expect(log.onAck(packetID) == true) }
        while log.dropOldestWaiting() {}
        #expect(log.isEmpty && log.byteCount == 0)
    }
}
