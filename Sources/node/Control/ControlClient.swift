import Foundation
import NIOCore

/// Asks a node through its control socket.
struct ControlClient {
    /// Where the node listens.
    let path: String

    func ask<Question: ControlQuestion>(
        _ question: Question,
        within timeout: TimeAmount = .seconds(10)
    ) throws(ControlFailure) -> Question.Answer {
        let line = try self.exchange(question, timeout)
        let answer: ControlMessage.Answer<Question.Answer>
        do {
            answer = try JSONDecoder().decode(ControlMessage.Answer<Question.Answer>.self, from: Data(line))
        } catch {
            throw ControlFailure("what the node at \(self.path) answered was not understood; is it of another release?")
        }
        if let body = answer.body { return body }
        let lines = (answer.error ?? "the node answered nothing").split(separator: "\n")
        throw ControlFailure(lines.map { String($0).escaped }.joined(separator: "\n"))
    }

    private func exchange(_ question: some ControlQuestion, _ timeout: TimeAmount) throws(ControlFailure) -> [UInt8] {
        let line: [UInt8]?
        do {
            let message = ControlMessage.Question(command: type(of: question).command, body: question)
            let socket = try LocalSocket(connectingTo: self.path, within: timeout)
            try socket.write(try ControlMessage.encode(message))
            line = try socket.readLine(bytesMax: ControlMessage.answerBytesMax)
        } catch let error as SocketError {
            throw self.failure(error, timeout)
        } catch {
            throw ControlFailure("the question cannot be written: \(error)")
        }
        guard let line else {
            throw ControlFailure("the node at \(self.path) ended, or is asked by too many at once")
        }
        return line
    }

    private func failure(_ error: SocketError, _ timeout: TimeAmount) -> ControlFailure {
        if error.isTimeout {
            return ControlFailure(
                "the node at \(self.path) does not answer within \(timeout.nanoseconds / 1_000_000_000) s"
            )
        }
        switch error.number {
        case ENOENT, ECONNREFUSED: return ControlFailure("no node runs at \(self.path)")
        case EACCES, EPERM, EPIPE, ECONNRESET:
            return ControlFailure("the node at \(self.path) cannot be asked: only its own user and root may")
        default: return ControlFailure("the node at \(self.path) cannot be asked: \(error)")
        }
    }
}
